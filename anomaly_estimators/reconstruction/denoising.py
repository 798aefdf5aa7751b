"""Denoising autoencoder: rows are rebuilt from what is left of them under noise."""

from numbers import Real

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from anomaly_estimators.nn.noise import GaussianNoise
from anomaly_estimators.reconstruction.autoencoder import Autoencoder
from anomaly_estimators.training.phases import Phase

__all__ = ["DenoisingAutoencoder"]


class DenoisingNetwork(nn.Module):
    """Autoencoder that sees noisy rows in training.

    Parameters
    ----------
    autoencoder : torch.nn.Module
        With ``encoder`` and ``decoder``; returns ``(code, reconstruction)``.
    noise : float
        Standard deviation.
    """

    def __init__(self, autoencoder: nn.Module, noise: float):
        super().__init__()
        self.noise = GaussianNoise(noise)
        self.autoencoder = autoencoder

    @property
    def encoder(self) -> nn.Module:
        return self.autoencoder.encoder

    @property
    def decoder(self) -> nn.Module:
        return self.autoencoder.decoder

    def forward(self, X: Tensor):
        return self.autoencoder(self.noise(X))


class DenoisingAutoencoder(Autoencoder):
    """Denoising autoencoder: trained to rebuild rows from noisy copies of them.

    Gaussian noise is added to the scaled rows in training, and the network is to return the rows
    without it ([1]_, eq 4; [2]_): it cannot merely copy, whatever the width of its code. The score is
    that of :class:`Autoencoder`, the negative squared reconstruction error of the row itself, without
    noise (eq 5).

    Parameters
    ----------
    noise : float, default=0.5
        Standard deviation of the noise, at least 0, in units of the scaled features: 0.5 is half of a
        feature's spread under ``scaler="standard"``, but half of its range under "minmax", which is
        too much. 0 makes it an :class:`Autoencoder`.
    latent_dim : int, default=4
        Width of the code.

    See Also
    --------
    Autoencoder : The same without noise.

    Notes
    -----
    The network of [1]_ (appendix A.1) has the hidden layers (256, 64) and a code of 8, and is trained
    by RMSProp with a learning rate of 0.01 on batches of 256 rows for 5,000 steps:
    ``DenoisingAutoencoder(hidden_layer_sizes=(256, 64), latent_dim=8, optimizer="rmsprop",
    learning_rate=0.01, batch_size=256, max_iter=n)`` with as many epochs n as make 5,000 batches.
    It gives neither the noise nor the activation.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018.
       https://arxiv.org/abs/1805.09411
    .. [2] Vincent et al., "Stacked Denoising Autoencoders: Learning Useful Representations in a
       Deep Network with a Local Denoising Criterion", JMLR 11, 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import DenoisingAutoencoder
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = DenoisingAutoencoder(max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    """

    _parameter_constraints: dict = {
        **Autoencoder._parameter_constraints,
        "noise": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, *, noise=0.5, **inherited):
        super().__init__(**inherited)
        self.noise = noise

    def _build_module(self, n_features: int) -> nn.Module:
        return DenoisingNetwork(super()._build_module(n_features), self.noise)

    def _phases(self, module: nn.Module) -> list[Phase]:
        # A warm start may go on under other noise.
        module.noise.std = self.noise
        return super()._phases(module)

    def _module_encode(self, module: nn.Module, X: Tensor) -> Tensor:
        # Of noisy rows where the network is in training (eq 6).
        return module.encoder(module.noise(X))
