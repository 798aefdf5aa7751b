"""A binary classifier of known anomalies against the rest."""

from collections.abc import Iterable
from functools import partial

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from anomaly_estimators.autoencoding import AutoencodingDetector, code_width
from anomaly_estimators.functional.classification import anomaly_cross_entropy
from anomaly_estimators.nn.mlp import ACTIVATIONS, initialise
from anomaly_estimators.training.phases import Phase

__all__ = ["DeepClassifier"]


class ClassifierNetwork(nn.Module):
    """Encoder and logistic head; ``forward`` returns the log-odds of being an anomaly.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps ``(n, n_features)`` to ``(n, latent_dim)``.
    latent_dim : int
        Width of the code.
    activation : str
        Activation between the code and the head.
    autoencoder : torch.nn.Module, default=None
        Autoencoder whose encoder it is, for the pre-training.
    """

    def __init__(
        self,
        encoder: nn.Module,
        latent_dim: int,
        activation: str,
        autoencoder: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.activation = ACTIVATIONS[activation]()
        self.head = nn.Linear(latent_dim, 1)
        initialise(self.head, "identity")
        self.autoencoder = autoencoder
        self.register_buffer("anomaly_weight", torch.ones(()))

    def forward(self, X: Tensor) -> Tensor:
        return self.head(self.activation(self.encoder(X))).squeeze(1)


class DeepClassifier(AutoencodingDetector):
    """Supervised binary classifier: known anomalies against all other rows.

    The supervised end of the field that [1]_ compares with: unlabelled rows count as normal, and
    the network is trained on the binary cross-entropy (appendix E). The score is the negative
    log-odds of being an anomaly. It knows the anomalies that it has seen, and nothing of new kinds:
    :class:`DeepSAD` is the detector for those.

    Parameters
    ----------
    class_weight : "balanced" or None, default=None
        "balanced" gives the known anomalies together as much weight as all other rows together.
    latent_dim : int, default=32
        Width of the last hidden layer, which :meth:`transform` returns.
    activation : str, default="leaky_relu"
        Activation of the hidden layers: "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid",
        "softplus" or "identity".
    batch_norm : bool, default=True
        Whether the hidden layers are normalised over the batch, without affine terms.
    network : torch.nn.Module, callable or None, default=None
        Own encoder in the place of the default one: a plain module from flat rows to codes, or one
        with ``encoder`` (and ``decoder``, for ``pretrain``), which is copied with its weights; or a
        callable that takes the number of features and returns such a module.
    pretrain : {"end_to_end", "layerwise"} or None, default=None
        Training of the encoder as a part of an autoencoder before the classifier.

    See Also
    --------
    DeepSAD : Learns from labels without taking all anomalies to be alike.
    SSDGM : A generative model that learns from unlabelled rows too.

    Notes
    -----
    ``fit(X, y)`` reads ``y`` by its sign: +1 known normal, -1 known anomaly, 0 unlabelled.

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.
       https://openreview.net/forum?id=HkgH0TEYwH

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import DeepClassifier
    >>> X, malignant_is_0 = load_breast_cancer(return_X_y=True)
    >>> y = np.zeros(len(X))
    >>> y[np.flatnonzero(malignant_is_0 == 0)[:30]] = -1  # thirty confirmed anomalies
    >>> detector = DeepClassifier(max_iter=5, random_state=0).fit(X, y)
    >>> int((detector.predict(X) == -1).sum())
    56
    """

    _parameter_constraints: dict = {
        **AutoencodingDetector._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), None],
    }
    _uses_labels = True
    _needs_anomalies = True

    def __init__(
        self,
        *,
        class_weight=None,
        latent_dim=32,
        activation="leaky_relu",
        batch_norm=True,
        **inherited,
    ):
        super().__init__(
            latent_dim=latent_dim, activation=activation, batch_norm=batch_norm, **inherited
        )
        self.class_weight = class_weight

    def _build_module(self, n_features: int) -> nn.Module:
        encoder, autoencoder = self._build_encoder(n_features)
        return ClassifierNetwork(
            encoder, code_width(encoder, n_features), self.activation, autoencoder
        )

    def _phases(self, module: nn.Module) -> list[Phase]:
        def loss(logits: Tensor, X: Tensor, y: Tensor) -> Tensor:
            return anomaly_cross_entropy(logits, y, module.anomaly_weight)

        return [
            *self._encoder_pretraining(module.autoencoder),
            Phase(
                name="training",
                loss=loss,
                max_iter=self.max_iter,
                begin=partial(_weigh, module) if self.class_weight else None,
            ),
        ]

    def _trim(self, module: nn.Module) -> None:
        module.autoencoder = None

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.activation(module.encoder(X))

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return module(X)


def _weigh(module: ClassifierNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Balance the classes."""
    anomalies, others = 0, 0
    for _, y in batches:
        anomalies += int((y < 0).sum())
        others += int((y >= 0).sum())
    module.anomaly_weight.fill_(others / max(1, anomalies))
