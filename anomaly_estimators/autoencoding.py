"""What detectors with an autoencoder in them share."""

import math
import warnings
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor, nn

from anomaly_estimators.deep import DeepDetector
from anomaly_estimators.nn.autoencoder import mlp_autoencoder
from anomaly_estimators.nn.conv import conv_autoencoder
from anomaly_estimators.nn.custom import build_autoencoder, build_encoder
from anomaly_estimators.nn.mlp import ACTIVATIONS
from anomaly_estimators.row_blocks import join
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.pretraining import autoencoder_phases

__all__ = ["AutoencodingDetector", "ReconstructingDetector", "check_layer_sizes", "code_width"]


class AutoencodingDetector(TransformerMixin, DeepDetector):
    """Base class of the detectors that train an autoencoder and offer its codes as a transformer.

    A subclass defines ``_module_transform(module, X)``, the representation of a batch.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64, 32)
        Widths of the encoder's hidden layers, at least 1 each; the decoder mirrors them. In a
        convolutional network, those of the dense layers between the convolutions and the code.
    latent_dim : int, default=8
        Width of the code.
    activation : str, default="tanh"
        Activation of the hidden layers: "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid",
        "softplus" or "identity".
    batch_norm : bool, default=False
        Whether the hidden layers are normalised over the batch, without affine terms.
    input_shape : tuple of int or None, default=None
        What a row is folded to: (channels, height, width) for images, (channels, length) for series.
        The network is then convolutional, of LeNet's type: convolutions of width 5, each followed by
        the activation and a pooling that halves the size, and a decoder that mirrors them. ``None``
        takes rows as they are, for a fully connected network.
    channels : tuple of int, default=(16, 32)
        Number of filters of each convolution, where ``input_shape`` is given.
    network : torch.nn.Module, callable or None, default=None
        Own autoencoder in the place of the fully connected one: a module with ``encoder`` and
        ``decoder`` that returns ``(code, reconstruction)``, which is copied with its weights, or a
        callable that takes the number of features and returns one. It takes flat rows. See
        :class:`~anomaly_estimators.nn.autoencoder.AutoencoderNetwork`.
    pretrain : {"end_to_end", "layerwise"} or None, default=None
        Training of the autoencoder before the method's objective: as a whole, or layer after layer
        as denoising autoencoders and then as a whole (Vincent et al. 2010).
    pretrain_max_iter : int or None, default=None
        Epochs of every phase of the pre-training; ``None`` takes ``max_iter``.
    corruption : float, default=0.1
        Share of a layer's inputs that layer-wise pre-training masks.
    """

    _parameter_constraints: dict = {
        **DeepDetector._parameter_constraints,
        "hidden_layer_sizes": ["array-like"],
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "batch_norm": ["boolean"],
        "input_shape": [tuple, list, None],
        "channels": ["array-like"],
        "network": [nn.Module, callable, None],
        "pretrain": [StrOptions({"end_to_end", "layerwise"}), None],
        "pretrain_max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "corruption": [Interval(Real, 0, 1, closed="left")],
    }

    # Whether the layers have bias terms.
    _bias = True

    def __init__(
        self,
        *,
        hidden_layer_sizes=(64, 32),
        latent_dim=8,
        activation="tanh",
        batch_norm=False,
        input_shape=None,
        channels=(16, 32),
        network=None,
        pretrain=None,
        pretrain_max_iter=None,
        corruption=0.1,
        **inherited,
    ):
        super().__init__(**inherited)
        self.hidden_layer_sizes = hidden_layer_sizes
        self.latent_dim = latent_dim
        self.activation = activation
        self.batch_norm = batch_norm
        self.input_shape = input_shape
        self.channels = channels
        self.network = network
        self.pretrain = pretrain
        self.pretrain_max_iter = pretrain_max_iter
        self.corruption = corruption

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        """Return the representation of a batch, of shape (n, n_components)."""
        raise NotImplementedError

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_layer_sizes("hidden_layer_sizes", self.hidden_layer_sizes)
        check_layer_sizes("channels", self.channels)
        if self.input_shape is not None:
            check_layer_sizes("input_shape", self.input_shape)
            if len(self.input_shape) not in (2, 3):
                raise ValueError(
                    f"input_shape={self.input_shape!r} must be (channels, height, width) for images or "
                    "(channels, length) for series."
                )
            _warn_of_order(tuple(self.input_shape))

    def _build_autoencoder(self, n_features: int) -> nn.Module:
        return build_autoencoder(
            self.network, n_features, partial(self._default_autoencoder, n_features)
        )

    def _build_encoder(self, n_features: int) -> tuple[nn.Module, nn.Module | None]:
        """Return the encoder, and the autoencoder that it belongs to if that is to be trained first."""
        if self.pretrain is not None:
            autoencoder = self._build_autoencoder(n_features)
            return autoencoder.encoder, autoencoder
        default = partial(self._default_autoencoder, n_features)
        return build_encoder(self.network, n_features, lambda: default().encoder), None

    def _default_autoencoder(self, n_features: int, **changes) -> nn.Module:
        """Return the network that the parameters ask for, or that they would with the changes."""
        options = {
            "input_shape": self.input_shape,
            "hidden_layer_sizes": self.hidden_layer_sizes,
            "latent_dim": self.latent_dim,
            "activation": self.activation,
            "bias": self._bias,
            "batch_norm": self.batch_norm,
            **changes,
        }
        shape = options.pop("input_shape")
        if shape is not None and math.prod(shape) != n_features:
            raise ValueError(
                f"X has {n_features} features, but input_shape={tuple(shape)} holds "
                f"{math.prod(shape)}: rows are flattened images or series of that shape."
            )
        return self._make_autoencoder(n_features, shape, **options)

    def _make_autoencoder(self, n_features: int, shape: tuple | None, **options) -> nn.Module:
        """Return the kind of network that suits rows of this shape."""
        if shape is None:
            return mlp_autoencoder(n_features, **options)
        return conv_autoencoder(shape, self.channels, **options)

    def _pretraining_phases(self, autoencoder: nn.Module, *, fine_tune: bool) -> list[Phase]:
        return autoencoder_phases(
            autoencoder,
            self.pretrain,
            self.pretrain_max_iter or self.max_iter,
            corruption=self.corruption,
            fine_tune=fine_tune,
        )

    def _encoder_pretraining(self, autoencoder: nn.Module | None) -> list[Phase]:
        """Phases for what :meth:`_build_encoder` returned; none once the autoencoder was dropped."""
        if autoencoder is None:
            return []
        return self._pretraining_phases(autoencoder, fine_tune=True)

    def transform(self, X) -> np.ndarray:
        """Represent rows by the trained network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            Codes; float32 for float32 rows, else float64.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        return join(self._map(self._module_transform, X), X.shape[0])

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Return the names of the columns that :meth:`transform` makes.

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        ndarray of shape (n_outputs,), dtype object
            ``code0``, ``code1`` and so on, and what a method appends to the code.
        """
        check_is_fitted(self)
        appended = self._appended_names()
        n_codes = self._represented(1).shape[1] - len(appended)
        return np.asarray([*(f"code{i}" for i in range(n_codes)), *appended], dtype=object)

    def _appended_names(self) -> list[str]:
        """Return the names of the columns that a method appends to the code."""
        return []

    def _represented(self, n_rows: int) -> np.ndarray:
        rows = np.zeros((n_rows, self.n_features_in_), dtype=np.float32)
        return next(iter(self._map(self._module_transform, rows)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class ReconstructingDetector(AutoencodingDetector):
    """Base class of those whose codes can be decoded to rows.

    A subclass defines ``_module_decode(module, codes)``, the rows that a batch of codes stands for.
    """

    def _module_decode(self, module: nn.Module, codes: Tensor) -> Tensor:
        """Return rows on the network's scale, of shape (n, n_features)."""
        raise NotImplementedError

    def inverse_transform(self, X) -> np.ndarray:
        """Decode codes to rows on the scale of the training data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_outputs)
            Codes, with or without what :meth:`transform` appends to them, which is ignored.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows; float32 for float32 codes, else float64.

        Raises
        ------
        ValueError
            If the codes have another width, or the scaler cannot be inverted.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32], input_name="X", estimator=self)
        n_outputs = self._represented(1).shape[1]
        width = n_outputs - len(self._appended_names())
        if X.shape[1] not in (width, n_outputs):
            raise ValueError(
                f"X has {X.shape[1]} columns, but the codes of this {type(self).__name__} have {width}: "
                "pass what transform returns."
            )
        codes = X[:, :width]
        return self._unscaled(join(self._map(self._module_decode, codes, scaled=True), len(codes)))

    def _unscaled(self, rows: np.ndarray) -> np.ndarray:
        """Take rows from the network's scale back to that of the training data."""
        if self.scaler_ is None:
            return rows
        if not hasattr(self.scaler_, "inverse_transform"):
            raise ValueError(
                f"scaler={self.scaler!r} has no inverse_transform, so that decoded rows cannot be taken "
                "back to the scale of the training data: take one that has, or scaler=None."
            )
        return self.scaler_.inverse_transform(rows)


def code_width(encoder: nn.Module, n_features: int) -> int:
    """Width of the codes that an encoder makes of rows."""
    training = encoder.training
    # An own network may lie on another device than where new tensors are made.
    device = next((parameter.device for parameter in encoder.parameters()), None)
    with torch.no_grad():
        width = encoder.eval()(torch.zeros(2, n_features, device=device)).shape[1]
    encoder.train(training)
    return width


def _warn_of_order(shape: tuple) -> None:
    """Warn of a shape whose axes are most probably meant in another order, or without channels."""
    if len(shape) == 2 and shape[0] >= shape[1] > 1:
        warnings.warn(
            f"input_shape={shape} is read as a series of {shape[0]} channels and length {shape[1]}. For "
            f"images of one channel pass (1, {shape[0]}, {shape[1]}); the channels of a series come first.",
            UserWarning,
            stacklevel=4,
        )
    elif len(shape) == 3 and shape[0] > 4 >= shape[2]:
        warnings.warn(
            f"input_shape={shape} is read as images of {shape[0]} channels, {shape[1]} pixels high and "
            f"{shape[2]} wide. Channels come first: for images with them last pass "
            f"({shape[2]}, {shape[0]}, {shape[1]}), and move them in the rows, as by "
            f"X.reshape(-1, *{shape}).transpose(0, 3, 1, 2).reshape(len(X), -1).",
            UserWarning,
            stacklevel=4,
        )


def check_layer_sizes(name: str, value) -> None:
    """Refuse what is no sequence of widths.

    Raises
    ------
    ValueError
    """
    sizes = np.asarray(value)
    if sizes.ndim != 1 or (sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 1)):
        raise ValueError(
            f"{name} must be a sequence of integers of at least 1, such as (64, 32); got {value!r}."
        )
