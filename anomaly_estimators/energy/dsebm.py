"""DSEBM: a deep energy of rows, learned by denoising."""

from numbers import Real

from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anomaly_estimators.autoencoding import AutoencodingDetector
from anomaly_estimators.functional.energy import denoising_score_matching_loss, quadratic_energy
from anomaly_estimators.nn.energy import EnergyNetwork
from anomaly_estimators.training.phases import Phase

__all__ = ["DSEBM"]

# Activations with a continuous slope. With any other the gradient of the energy jumps, and the
# biases, which only decide where, are not trained.
_SMOOTH = ("elu", "gelu", "sigmoid", "silu", "softplus", "tanh")


def _energy(module: EnergyNetwork, X: Tensor) -> Tensor:
    return module.energy(X)


def _squared_gradient(module: EnergyNetwork, X: Tensor) -> Tensor:
    """Squared error of the reconstruction f(x) = x - grad E(x)."""
    return module.gradient(X).square().sum(dim=1)


# What can be asked for by name.
_SCORES = {"energy": _energy, "reconstruction": _squared_gradient}


class DSEBM(AutoencodingDetector):
    """Deep structured energy based model (Zhai et al. 2016).

    A network gives every row an energy, ``E(x) = ||x - b'||^2 / 2 - sum_j h_j(x)``, where h is its last
    layer: a bowl around b' that the features dig valleys into ([1]_, section 3). It is trained by
    denoising: a step down the energy, ``f(x) = x - grad E(x)``, is to take noisy rows back to where
    they came from, which is score matching [2]_. Rows of high energy are anomalies, or rows where
    the energy is steep.

    Parameters
    ----------
    anomaly_score : {"energy", "reconstruction"}, default="energy"
        What is scored: the energy E(x), which is DSEBM-e, or the squared error ||x - f(x)||^2 of the
        row as it is, which is the squared length of the gradient and DSEBM-r. It can be changed after
        the fit.
    noise : float, default=2.0
        Standard deviation of the noise in training, above 0, in units of the scaled features: 2 is twice a
        feature's spread under ``scaler="standard"``, but twice its range under "minmax", which is too
        much. The energy is that of the density of the noisy rows: the more noise, the smoother, and the
        nearer to the squared distance from the mean. With less, such as 0.5, it follows the shape of
        clean training rows; but where these hold anomalies, they get low energies of their own.
    hidden_layer_sizes : tuple of int, default=(64, 32)
        Widths of the layers before the last, at least 1 each. In a convolutional network, those of
        the dense layers between the convolutions and the last layer.
    latent_dim : int, default=8
        Width of the last layer h, whose sum the energy takes, and which :meth:`transform` returns.
    activation : str, default="softplus"
        Activation of all layers, the last too: "softplus", "elu", "gelu", "sigmoid", "silu" or "tanh". The
        energy must be smooth.
    batch_norm : bool, default=False
        Must be False: the energy of a row must not depend on the batch that it is in.
    network : torch.nn.Module, callable or None, default=None
        Own network in the place of the default one, before the last activation: a plain module from
        flat rows to ``(n, k)``, or one with ``encoder`` (and ``decoder``, for ``pretrain``), which is
        copied with its weights; or a callable that takes the number of features and returns such a
        module. It should be smooth, and have no batch normalisation.
    pretrain : {"end_to_end", "layerwise"} or None, default=None
        Training of the layers as the encoder of an autoencoder before the energy.

    See Also
    --------
    DenoisingAutoencoder : Takes noise away with an encoder and a decoder.
    DAGMM : An energy of codes, by a mixture.

    Notes
    -----
    The loss is the mean of ``||x - f(x + noise * e)||^2``. It is least if ``-grad E / noise^2`` is the
    gradient of the logarithm of the density of noisy rows: ``E / noise^2`` is minus that logarithm,
    up to a constant. The factor is left out, which changes no ranking. Energies may be negative, and
    those of two models cannot be compared.

    The network of [3]_ (appendix A) for KDDCUP is ``DSEBM(hidden_layer_sizes=(60, 30, 10),
    latent_dim=1, max_iter=200, batch_size=1024)``. It gives neither the noise nor the learning rate.

    References
    ----------
    .. [1] Zhai et al., "Deep Structured Energy Based Models for Anomaly Detection", ICML 2016.
       https://arxiv.org/abs/1605.07717
    .. [2] Vincent, "A Connection Between Score Matching and Denoising Autoencoders", Neural
       Computation 23(7), 2011.
    .. [3] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018. https://openreview.net/forum?id=BJJLHbb0-

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import DSEBM
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = DSEBM(max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> steepness = detector.set_params(anomaly_score="reconstruction").score_samples(X)
    """

    _scoring_parameters = frozenset({"anomaly_score"})
    _parameter_constraints: dict = {
        **AutoencodingDetector._parameter_constraints,
        "anomaly_score": [StrOptions(set(_SCORES))],
        "noise": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        anomaly_score="energy",
        noise=2.0,
        activation="softplus",
        **inherited,
    ):
        super().__init__(activation=activation, **inherited)
        self.anomaly_score = anomaly_score
        self.noise = noise

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.activation not in _SMOOTH:
            raise ValueError(
                f"activation={self.activation!r} makes an energy whose gradient is constant but for jumps, "
                f"and the gradient is what is trained: take a smooth one, {', '.join(_SMOOTH)}."
            )
        if self.batch_norm:
            raise ValueError(
                "batch_norm=True makes the energy of a row depend on the batch that it is in, so that its "
                "gradient is not that of the row: set batch_norm=False."
            )

    def _build_module(self, n_features: int) -> nn.Module:
        encoder, autoencoder = self._build_encoder(n_features)
        if any(isinstance(part, _BatchNorm) for part in encoder.modules()):
            raise ValueError(
                "network has batch normalisation, which makes the energy of a row depend on the batch "
                "that it is in: leave it out, or normalise each row by itself (torch.nn.LayerNorm)."
            )
        return EnergyNetwork(encoder, n_features, self.activation, self.noise, autoencoder)

    def _phases(self, module: nn.Module) -> list[Phase]:
        # A warm start may go on under other noise.
        module.noise = self.noise
        return [
            *self._encoder_pretraining(module.autoencoder),
            Phase(name="training", loss=_loss, max_iter=self.max_iter),
        ]

    def _trim(self, module: nn.Module) -> None:
        module.autoencoder = None

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.features(X)

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return _SCORES[self.anomaly_score](module, X)

    def _module_latent_and_score(self, module: nn.Module, X: Tensor) -> tuple[Tensor, Tensor]:
        if self.anomaly_score != "energy":
            return super()._module_latent_and_score(module, X)
        # In one pass.
        features = module.features(X)
        return features, quadratic_energy(X, features, module.visible_bias)


def _loss(reconstruction: Tensor, X: Tensor, y: Tensor) -> Tensor:
    return denoising_score_matching_loss(X, reconstruction)
