"""What Deep SVDD and Deep SAD share: codes around a centre."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from anomaly_estimators.autoencoding import AutoencodingDetector, code_width
from anomaly_estimators.functional.hypersphere import (
    hypersphere_center,
    mean_squared_distance,
    squared_distance,
)
from anomaly_estimators.nn.hypersphere import HypersphereNetwork
from anomaly_estimators.training.phases import Phase

__all__ = ["HypersphereDetector"]

# Activations that are 0 at 0 and have no upper bound: with any other a network can be constant,
# which shrinks the sphere to its centre.
_ACTIVATIONS = ("elu", "gelu", "identity", "leaky_relu", "relu", "silu")


class HypersphereDetector(AutoencodingDetector):
    """Base class of the detectors that score by the distance of a code to a centre.

    A subclass defines ``_loss(squared_distances, y)``, its objective on a batch.

    Parameters
    ----------
    normalize_distances : bool, default=True
        Whether the objective measures squared distances in units of their mean over the training
        rows (known anomalies left out) before the first step. Where a distance is weighed against
        the inverse of another, the balance depends on the scale of the codes, which the
        pre-training leaves to chance. False takes the paper's equations as they are printed.
    hidden_layer_sizes : tuple of int, default=(256, 128)
        Widths of the encoder's hidden layers, at least 1 each. In a convolutional network, those of
        the dense layers between the convolutions and the code.
    latent_dim : int, default=64
        Width of the code.
    activation : str, default="leaky_relu"
        Activation of the hidden layers: "leaky_relu", "relu", "elu", "gelu", "silu" or "identity". With
        a bounded one, or one that is not 0 at 0, the network could map all rows to the centre.
    batch_norm : bool, default=True
        Whether the hidden layers are normalised over the batch, without affine terms.
    network : torch.nn.Module, callable or None, default=None
        Own network in the place of the default one: a module with ``encoder`` and ``decoder`` that
        returns ``(code, reconstruction)``, such as the ``module_`` of a fitted
        :class:`Autoencoder`, or with ``pretrain=None`` a plain module from rows to codes; it is
        copied with its weights. Or a callable that takes the number of features and returns such a
        module. It takes flat rows, and should have no bias terms.
    pretrain : {"end_to_end", "layerwise"} or None, default="end_to_end"
        Training of the encoder as a part of an autoencoder before the method's objective: as a
        whole, or layer after layer as denoising autoencoders and then as a whole.
    lr_schedule : {"constant", "cosine", "linear", "step", "two_phase", "warmup_cosine"} or callable, \
            default="two_phase"
        Factor on the learning rate, as a function of the share of the epochs that has passed.
        "two_phase" is the paper's: 1 while searching, for a third of the epochs, then 0.1.
    weight_decay : float, default=1e-6
        Weight decay lambda.

    Attributes
    ----------
    center_ : ndarray of shape (latent_dim,)
        Centre c: the mean code after the pre-training, known anomalies left out, with coordinates
        moved away from 0.
    """

    _parameter_constraints: dict = {
        **AutoencodingDetector._parameter_constraints,
        "activation": [StrOptions(set(_ACTIVATIONS))],
        "normalize_distances": ["boolean"],
    }
    # A bias would let the network be constant.
    _bias = False

    def __init__(
        self,
        *,
        normalize_distances=True,
        hidden_layer_sizes=(256, 128),
        latent_dim=64,
        activation="leaky_relu",
        batch_norm=True,
        pretrain="end_to_end",
        lr_schedule="two_phase",
        weight_decay=1e-6,
        **inherited,
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            latent_dim=latent_dim,
            activation=activation,
            batch_norm=batch_norm,
            pretrain=pretrain,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            **inherited,
        )
        self.normalize_distances = normalize_distances

    def _loss(self, squared_distances: Tensor, y: Tensor) -> Tensor:
        """Return the objective of a batch."""
        raise NotImplementedError

    def _build_module(self, n_features: int) -> nn.Module:
        encoder, autoencoder = self._build_encoder(n_features)
        return HypersphereNetwork(encoder, code_width(encoder, n_features), autoencoder)

    def _phases(self, module: nn.Module) -> list[Phase]:
        def loss(codes: Tensor, X: Tensor, y: Tensor) -> Tensor:
            return self._loss(squared_distance(codes, module.center) / module.unit, y)

        return [
            *self._encoder_pretraining(module.autoencoder),
            Phase(
                name="training",
                loss=loss,
                max_iter=self.max_iter,
                module=module.encoder,
                begin=partial(self._place, module),
            ),
        ]

    def _place(self, module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set the centre and the unit of the distances."""
        module.center.copy_(hypersphere_center((module(X), y) for X, y in batches))
        if self.normalize_distances:
            module.unit.copy_(
                mean_squared_distance(((module.squared_distance(X), y) for X, y in batches))
            )

    def _trim(self, module: nn.Module) -> None:
        module.autoencoder = None

    def _finish(self, X: np.ndarray) -> None:
        self.center_ = self.module_.center.cpu().numpy().copy()

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module(X)

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.squared_distance(X).sqrt()

    def _module_latent_and_score(self, module: nn.Module, X: Tensor) -> tuple[Tensor, Tensor]:
        codes = module(X)
        return codes, squared_distance(codes, module.center).sqrt()
