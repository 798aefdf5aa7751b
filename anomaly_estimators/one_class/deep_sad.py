"""Deep SAD: Deep SVDD that learns from a few labelled rows."""

from numbers import Real

from sklearn.utils._param_validation import Interval
from torch import Tensor

from anomaly_estimators.functional.hypersphere import semi_supervised_loss
from anomaly_estimators.one_class.hypersphere import HypersphereDetector

__all__ = ["DeepSAD"]


class DeepSAD(HypersphereDetector):
    """Deep semi-supervised anomaly detection (Ruff et al. 2020).

    As in :class:`DeepSVDD` a network without bias terms, pre-trained as the encoder of an
    autoencoder, maps the unlabelled rows close to a fixed centre. Known normal rows are drawn there
    too, and known anomalies driven away, by the inverse of their squared distance ([1]_, eq 8).
    The score is the negative distance to the centre (eq 4). Without labels it is Deep SVDD.

    Parameters
    ----------
    eta : float, default=1.0
        Weight of a labelled row in the objective, against 1 for an unlabelled one (eq 8).

    See Also
    --------
    DeepSVDD : The same without labels.
    SSAD : The convex kernel method for the same task.
    DeepClassifier : Learns what tells the known anomalies from the rest, and no more.

    Notes
    -----
    ``fit(X, y)`` reads ``y`` by its sign: +1 known normal, -1 known anomaly, 0 unlabelled. The
    unlabelled rows are taken as mostly normal.

    The paper trains with ``learning_rate=1e-4, max_iter=150, batch_size=200`` and
    ``normalize_distances=False``, and with ``hidden_layer_sizes=(32, 16), latent_dim=8`` on most of its
    tables. The defaults are wider and faster, and stronger on average.

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.
       https://openreview.net/forum?id=HkgH0TEYwH

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import DeepSAD
    >>> X, malignant_is_0 = load_breast_cancer(return_X_y=True)
    >>> y = np.zeros(len(X))
    >>> y[np.flatnonzero(malignant_is_0 == 0)[:10]] = -1  # ten confirmed anomalies
    >>> detector = DeepSAD(max_iter=5, random_state=0).fit(X, y)
    >>> int((detector.predict(X) == -1).sum())
    56
    """

    _parameter_constraints: dict = {
        **HypersphereDetector._parameter_constraints,
        "eta": [Interval(Real, 0, None, closed="neither")],
    }
    _uses_labels = True

    def __init__(self, *, eta=1.0, **inherited):
        super().__init__(**inherited)
        self.eta = eta

    def _loss(self, squared_distances: Tensor, y: Tensor) -> Tensor:
        return semi_supervised_loss(squared_distances, y, self.eta)
