"""Features of rows from LODA: the negative log density along each of its projections."""

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import clone

from anomaly_estimators.active._aad_solver import DenseRows
from anomaly_estimators.active._cell_features import CellFeatures, fit_features
from anomaly_estimators.active._loda_histograms import Histograms, ProjectedHistograms
from anomaly_estimators.active.loda import LODA

__all__ = ["LODAFeatures"]


class LODAFeatures(CellFeatures):
    """One feature a projection.

    Parameters
    ----------
    columns, weights : ndarray of shape (n_projections, n_used)
    ranges, n_bins, n_cells, log_densities, log_tails
        Of the :class:`Histograms`.
    """

    def __init__(self, *, columns, weights, **histograms):
        self._members = ProjectedHistograms(columns, weights, Histograms(**histograms))
        self._members.check(np.max(columns, initial=0) + 1)
        self.n_columns = int(np.max(columns, initial=0)) + 1
        self.starts = self._members.histograms.starts
        n_members = len(columns)
        cells = np.arange(self.starts[-1])
        member = np.repeat(np.arange(n_members), np.diff(self.starts))
        self.values = csr_array(
            (-self._members.histograms.table, (cells, member)), shape=(len(cells), n_members)
        )

    def locate(self, X: np.ndarray) -> np.ndarray:
        return self._members.locate(X)

    def rows(self, cells: np.ndarray) -> DenseRows:
        table = self._members.histograms.table
        return DenseRows(-table[cells.T + self.starts[:-1]])

    def state(self) -> dict:
        columns, weights, histograms = self._members
        return {"columns": columns, "weights": weights, **histograms._asdict()}


@fit_features.register
def _(detector: LODA, X, *, forest_features, random_state) -> LODAFeatures:
    detector = clone(detector)
    if detector.random_state is None:
        detector.set_params(random_state=random_state.randint(np.iinfo(np.int32).max))
    # Its threshold is not used, and would cost a look at all rows.
    detector._fit(X, None)
    columns, weights, histograms = detector._members
    return LODAFeatures(columns=columns, weights=weights, **histograms._asdict())
