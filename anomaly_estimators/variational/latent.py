"""What detectors with a latent variable model in them share."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from anomaly_estimators.autoencoding import AutoencodingDetector, code_width
from anomaly_estimators.nn.variational import LIKELIHOODS, VariationalDecoder, VariationalEncoder
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.rows import RowSource

__all__ = ["LatentVariableDetector"]

# By how much a scaled value may pass 0 or 1: rounding in single precision.
_ROUNDING = 1e-5


class LatentVariableDetector(AutoencodingDetector):
    """Base class of the detectors that fit p(x|z) and q(z|x), with an autoencoder's networks.

    Parameters
    ----------
    likelihood : {"gaussian", "unit_gaussian", "bernoulli"}, default="gaussian"
        What a scaled row is about the decoder's output: "gaussian", with a variance that is learned
        for each feature; "unit_gaussian", with variance 1, so that the log-likelihood is half the
        squared error; or "bernoulli" for rows in [0, 1] such as pixels, which needs
        ``scaler="minmax"`` or ``None``.
    hidden_layer_sizes : tuple of int, default=(64, 32)
        Widths of the encoder's hidden layers, at least 1 each; the decoder mirrors them. In a
        convolutional network, those of the dense layers after the convolutions.
    latent_dim : int, default=8
        Number of latent variables z.
    activation : str, default="leaky_relu"
        Activation of the hidden layers: "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid",
        "softplus" or "identity".
    batch_norm : bool, default=True
        Whether the hidden layers are normalised over the batch, without affine terms.
    network : torch.nn.Module, callable or None, default=None
        Own autoencoder of the rows in the place of the default one: a module with ``encoder`` and
        ``decoder`` that returns ``(code, reconstruction)``, which is copied with its weights, or a
        callable that takes the number of features and returns one. It takes flat rows. Its code is
        the last hidden layer of the encoder of distributions, and the first of the decoder.
    pretrain : {"end_to_end", "layerwise"} or None, default=None
        Training of the encoder and the decoder as a plain autoencoder before the model: as a whole,
        or layer after layer as denoising autoencoders and then as a whole.
    """

    _parameter_constraints: dict = {
        **AutoencodingDetector._parameter_constraints,
        "likelihood": [StrOptions(set(LIKELIHOODS))],
    }

    def __init__(
        self,
        *,
        likelihood="gaussian",
        activation="leaky_relu",
        batch_norm=True,
        **inherited,
    ):
        super().__init__(activation=activation, batch_norm=batch_norm, **inherited)
        self.likelihood = likelihood

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.likelihood == "bernoulli" and self.scaler in ("standard", "robust"):
            raise ValueError(
                f"likelihood='bernoulli' needs rows in [0, 1], which scaler={self.scaler!r} does not "
                "give: take scaler='minmax', scaler=None for rows that are in [0, 1] already, or "
                "likelihood='gaussian'."
            )

    def _build_vae(
        self, autoencoder: nn.Module, n_features: int, likelihood: str, n_classes: int = 0
    ) -> tuple[VariationalEncoder, VariationalDecoder]:
        """Turn an autoencoder of rows into one of distributions."""
        sizes = (code_width(autoencoder.encoder, n_features), self.latent_dim, self.activation)
        options = {"batch_norm": self.batch_norm, "n_classes": n_classes}
        outputs = LIKELIHOODS[likelihood](n_features, n_classes)
        return (
            VariationalEncoder(autoencoder.encoder, *sizes, **options),
            VariationalDecoder(autoencoder.decoder, *sizes, outputs, **options),
        )

    def _default_autoencoder(self, n_features: int, **changes) -> nn.Module:
        # The last hidden layer takes the place of the code, which the model has of its own.
        *hidden, last = list(self.hidden_layer_sizes) or [self.latent_dim]
        return super()._default_autoencoder(
            n_features, **{"hidden_layer_sizes": hidden, "latent_dim": last, **changes}
        )

    def _warm_module(self, X: np.ndarray) -> nn.Module:
        module = super()._warm_module(X)
        # A warm start leaves out what phases begin with.
        if self.likelihood == "bernoulli":
            rows = RowSource(X, self.scaler_, np.float32).pieces()
            _check_unit_interval((piece, None) for piece in rows)
        return module

    def _check_rows_first(self, phases: list[Phase]) -> list[Phase]:
        """Let the first phase refuse rows that the likelihood does not suit."""
        if self.likelihood == "bernoulli":
            phases[0] = replace(phases[0], begin=_check_unit_interval)
        return phases


def _check_unit_interval(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    for X, _ in batches:
        low, high = X.aminmax()
        if not (low >= -_ROUNDING and high <= 1.0 + _ROUNDING):
            raise ValueError(
                f"likelihood='bernoulli' needs rows in [0, 1], but there are values from {low:.6g} to "
                f"{high:.6g} after scaling: take scaler='minmax', or likelihood='gaussian'."
            )
