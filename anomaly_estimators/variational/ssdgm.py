"""SS-DGM: a generative model of rows and their classes that learns from unlabelled rows too."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from anomaly_estimators.autoencoding import code_width
from anomaly_estimators.functional.variational import evidence_bound, semi_supervised_objective
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.mlp import ACTIVATIONS, initialise
from anomaly_estimators.nn.variational import (
    Evidence,
    M2Evidence,
    M2Network,
    VariationalAutoencoder,
    draw,
)
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.variational.latent import LatentVariableDetector

__all__ = ["SSDGM"]


class SSDGMNetwork(nn.Module):
    """M2 on the rows, or on draws of the codes of an M1 that stays as it is.

    Parameters
    ----------
    m2 : M2Network
    m1 : VariationalAutoencoder, default=None
    """

    def __init__(self, m2: M2Network, m1: VariationalAutoencoder | None = None):
        super().__init__()
        self.m2 = m2
        self.m1 = m1

    def train(self, mode: bool = True) -> "SSDGMNetwork":
        super().train(mode)
        if self.m1 is not None:
            self.m1.eval()
        return self

    def forward(self, X: Tensor) -> M2Evidence:
        if self.m1 is not None:
            with torch.no_grad():
                X = draw(self.m1.encoder(X))
        return self.m2(X)

    def log_odds(self, X: Tensor) -> Tensor:
        """Log-odds of being an anomaly; of M1 the mean code, without noise."""
        return self.m2.log_odds(X if self.m1 is None else self.code(X))

    def code(self, X: Tensor) -> Tensor:
        """Mean of the latent variables of the model that sees the rows."""
        return self.m2.code(X) if self.m1 is None else self.m1.encoder(X).mean


class SSDGM(LatentVariableDetector):
    """Semi-supervised deep generative model (Kingma et al. 2014).

    A variational autoencoder in which a row comes from a class, normal or anomaly, and from
    continuous latent variables. Where the class of a row is known, the model learns from both; where
    it is not, the class is summed over. The network q(y|x) that tells the class is learned along with
    it, and gives the score: the negative log-odds of being an anomaly. [2]_ compares with this model
    under the name SS-DGM.

    Parameters
    ----------
    model : {"m2", "m1+m2"}, default="m1+m2"
        "m1+m2" trains a variational autoencoder M1 on the rows first, without their classes, and then
        the model of rows and classes, M2, on its codes: on draws of the codes, while their means are
        scored. "m2" models the rows directly, in one phase.
    alpha : float, default=0.1
        Weight of the classification loss -log q(y|x) ([1]_, eq 9), averaged over the labelled rows,
        against 1 for the bound averaged over all rows. It is the 0.1 of the paper's "0.1 N": each of
        m labelled rows among n rows has the weight ``alpha * n / m``.
    anomaly_prior : float, default=0.1
        Probability p(y) of the class of the anomalies, in (0, 1).
    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        What a scaled row is about the decoder's output: "gaussian", with a variance that is learned
        for each feature; or "bernoulli" for rows in [0, 1] such as pixels, which needs
        ``scaler="minmax"`` or ``None``.
    hidden_layer_sizes : tuple of int, default=(64, 32)
        Widths of the hidden layers of each encoder and of q(y|x), at least 1 each; the decoders mirror
        them. In a convolutional network, those of the dense layers after the convolutions. In
        "m1+m2", those of both models.
    latent_dim : int, default=8
        Number of latent variables z, in "m1+m2" of each of the models.
    activation : str, default="leaky_relu"
        Activation of the hidden layers: "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid",
        "softplus" or "identity".
    batch_norm : bool, default=True
        Whether the hidden layers are normalised over the batch, without affine terms.
    network : torch.nn.Module, callable or None, default=None
        Own autoencoder of the rows in the place of the default one: a module with ``encoder`` and
        ``decoder`` that returns ``(code, reconstruction)``, which is copied with its weights, or a
        callable that takes the number of features and returns one. It takes flat rows. Its code is
        the last hidden layer of the encoder of distributions, and the first of the decoder; q(y|x)
        has an encoder of the same kind.
    pretrain : {"end_to_end", "layerwise"} or None, default=None
        Training of the encoder and the decoder of the rows as a plain autoencoder before the model:
        as a whole, or layer after layer as denoising autoencoders and then as a whole. In "m2",
        q(y|x) starts from the encoder too.
    pretrain_max_iter : int or None, default=None
        Epochs of every phase of the pre-training, and of M1; ``None`` takes ``max_iter``.

    See Also
    --------
    DeepSAD : Learns from labels without taking all anomalies to be alike.
    DeepClassifier : Tells known anomalies from the rest, without a model of the rows.

    Notes
    -----
    ``fit(X, y)`` reads ``y`` by its sign: +1 known normal, -1 known anomaly, 0 unlabelled. Labelled
    anomalies alone will do. The estimated probability of being an anomaly is
    ``scipy.special.expit(-detector.score_samples(X))``; the log-odds rank rows where that is rounded
    to 0 or 1.

    Each class has output variances of its own, and both classes see the same noise in training, so
    that what decides between them is the difference of their bounds. Scoring draws nothing.

    As [2]_ notes, a model of classes has no notion of what lies outside both: anomalies of a kind that
    was never labelled may be found or not. :class:`DeepSAD` is the detector for those.

    References
    ----------
    .. [1] Kingma, Mohamed, Rezende & Welling, "Semi-supervised Learning with Deep Generative
       Models", NIPS 2014. https://arxiv.org/abs/1406.5298
    .. [2] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020, appendix E.
       https://openreview.net/forum?id=HkgH0TEYwH

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import SSDGM
    >>> X, malignant_is_0 = load_breast_cancer(return_X_y=True)
    >>> y = np.zeros(len(X))
    >>> y[np.flatnonzero(malignant_is_0 == 0)[:10]] = -1  # ten confirmed anomalies
    >>> detector = SSDGM(max_iter=5, random_state=0).fit(X, y)
    >>> int((detector.predict(X) == -1).sum())
    56
    """

    _parameter_constraints: dict = {
        **LatentVariableDetector._parameter_constraints,
        "model": [StrOptions({"m2", "m1+m2"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "anomaly_prior": [Interval(Real, 0, 1, closed="neither")],
    }
    _uses_labels = True
    _needs_anomalies = True

    def __init__(
        self,
        *,
        model="m1+m2",
        alpha=0.1,
        anomaly_prior=0.1,
        **inherited,
    ):
        super().__init__(**inherited)
        self.model = model
        self.alpha = alpha
        self.anomaly_prior = anomaly_prior

    def _build_module(self, n_features: int) -> nn.Module:
        of_rows = partial(self._build_autoencoder, n_features)
        if self.model == "m2":
            return SSDGMNetwork(self._build_m2(of_rows, n_features, self.likelihood))
        m1 = VariationalAutoencoder(*self._build_vae(of_rows(), n_features, self.likelihood))
        # Codes are numbers of either sign in a flat row, whatever the rows are.
        of_codes = partial(self._default_autoencoder, self.latent_dim, input_shape=None)
        return SSDGMNetwork(self._build_m2(of_codes, self.latent_dim, "gaussian"), m1)

    def _build_m2(
        self, build_autoencoder: Callable[[], nn.Module], n_features: int, likelihood: str
    ) -> M2Network:
        encoder = build_autoencoder().encoder
        head = nn.Linear(code_width(encoder, n_features), 1)
        initialise(head, "identity")
        # Before it has learned anything, q(y|x) is about p(y).
        nn.init.constant_(head.bias, math.log(self.anomaly_prior / (1.0 - self.anomaly_prior)))
        classifier = nn.Sequential(encoder, ACTIVATIONS[self.activation](), head)
        parts = self._build_vae(build_autoencoder(), n_features, likelihood, M2Network.n_classes)
        return M2Network(classifier, *parts, self.anomaly_prior)

    def _fit(self, X: np.ndarray, labels: np.ndarray) -> None:
        self._labelled_weight = len(labels) / max(1, np.count_nonzero(labels))
        super()._fit(X, labels)

    def _phases(self, module: nn.Module) -> list[Phase]:
        vae = module.m2 if module.m1 is None else module.m1
        autoencoder = AutoencoderNetwork(vae.encoder.encoder, vae.decoder.decoder)
        phases = self._pretraining_phases(autoencoder, fine_tune=True)
        starts_trained = bool(phases) and module.m1 is None
        if module.m1 is not None:
            phases.append(
                Phase(
                    name="M1",
                    loss=_negative_bound,
                    max_iter=self.pretrain_max_iter or self.max_iter,
                    module=module.m1,
                    main=False,
                )
            )
        phases.append(
            Phase(
                name="training",
                loss=self._loss,
                max_iter=self.max_iter,
                begin=partial(_start_classifier, module.m2) if starts_trained else None,
            )
        )
        return self._check_rows_first(phases)

    def _loss(self, outputs: M2Evidence, X: Tensor, y: Tensor) -> Tensor:
        classes = torch.where(y == 0, -1, (y < 0).long())
        return semi_supervised_objective(*outputs, classes, self.alpha * self._labelled_weight)

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.code(X)

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.log_odds(X)


def _negative_bound(outputs: Evidence, X: Tensor, y: Tensor) -> Tensor:
    return -evidence_bound(*outputs).mean()


def _start_classifier(m2: M2Network, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    m2.classifier[0].load_state_dict(m2.encoder.encoder.state_dict())
