"""Deep SVDD: a network that maps normal rows into a small sphere."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from anomaly_estimators.functional.hypersphere import one_class_loss, soft_boundary_loss
from anomaly_estimators.one_class.hypersphere import HypersphereDetector

__all__ = ["DeepSVDD"]


class DeepSVDD(HypersphereDetector):
    """Deep support vector data description (Ruff et al. 2018).

    A network without bias terms, pre-trained as the encoder of an autoencoder, learns to map the
    training rows close to a fixed centre. A row that lands far from it is an anomaly: the score is
    the negative distance ([1]_, eq 4).

    Parameters
    ----------
    objective : {"one_class", "soft_boundary"}, default="one_class"
        "one_class" draws all rows to the centre ([1]_, eq 3); "soft_boundary" shrinks a sphere that a
        share ``nu`` of the rows may leave, its radius solved for on every batch ([2]_, eq 3).
    nu : float, default=0.1
        Share of the rows outside the sphere, in (0, 1). It decides ``radius_``, and takes part in
        the training if ``objective="soft_boundary"``.

    Attributes
    ----------
    radius_ : float
        Radius of the sphere around ``center_`` that a share ``nu`` of the training rows lies
        outside.

    See Also
    --------
    DeepSAD : Learns from a few labelled rows too.
    Autoencoder : The pre-training alone.

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.
       https://openreview.net/forum?id=HkgH0TEYwH
    .. [2] Ruff et al., "Deep One-Class Classification", ICML 2018.
       https://proceedings.mlr.press/v80/ruff18a.html

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import DeepSVDD
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = DeepSVDD(max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> detector.transform(X).shape
    (569, 64)
    """

    _parameter_constraints: dict = {
        **HypersphereDetector._parameter_constraints,
        "objective": [StrOptions({"one_class", "soft_boundary"})],
        "nu": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(self, *, objective="one_class", nu=0.1, **inherited):
        super().__init__(**inherited)
        self.objective = objective
        self.nu = nu

    def _loss(self, squared_distances: Tensor, y: Tensor) -> Tensor:
        if self.objective == "one_class":
            return one_class_loss(squared_distances)
        return soft_boundary_loss(squared_distances, self.nu)

    def _take_scores(self, scores: np.ndarray, noise: float = 0.0) -> None:
        super()._take_scores(scores, noise)
        self.radius_ = float(np.quantile(-scores, 1.0 - self.nu))
