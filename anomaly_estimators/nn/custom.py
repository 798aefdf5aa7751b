"""Networks that users bring."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["build_autoencoder", "build_encoder"]

_Network = nn.Module | Callable[[int], nn.Module] | None


def build_autoencoder(
    network: _Network, n_features: int, default: Callable[[], nn.Module]
) -> nn.Module:
    """Return the autoencoder to train: a copy of the user's, or the default one.

    Parameters
    ----------
    network : torch.nn.Module, callable or None
        A module, which is copied with its weights; a callable that takes the number of features and
        returns a module; or ``None``.
    n_features : int
        Width of the rows.
    default : callable
        Builds the network where none is given.

    Returns
    -------
    torch.nn.Module
        In float32, with ``encoder`` and ``decoder``, returning ``(code, reconstruction)``.

    Raises
    ------
    ValueError
        If the network does not fit the rows, or lacks an encoder or a decoder.
    """
    if network is None:
        return default()
    built = _built(network, n_features)
    if not all(
        isinstance(getattr(built, part, None), nn.Module) for part in ("encoder", "decoder")
    ):
        raise ValueError(
            "network must be a torch.nn.Module with the sub-modules encoder and decoder (or a callable "
            "that returns one), whose forward pass returns (code, reconstruction): see "
            "anomaly_estimators.nn.autoencoder.AutoencoderNetwork(encoder, decoder). "
            "A detector that needs no more than an encoder takes one with pretrain=None."
        )
    shapes = [tuple(getattr(output, "shape", ())) for output in _outputs(built, n_features)]
    if len(shapes) != 2 or len(shapes[0]) != 2 or shapes[1] != (2, n_features):
        raise ValueError(
            "The forward pass of network must return the codes (n, latent_dim) and the reconstructions "
            f"(n, {n_features}); for 2 rows it returned the shapes {shapes}."
        )
    return built


def build_encoder(
    network: _Network, n_features: int, default: Callable[[], nn.Module]
) -> nn.Module:
    """Return the encoder to train: a copy of the user's, that of an autoencoder, or the default one.

    Parameters
    ----------
    network : torch.nn.Module, callable or None
        As in :func:`build_autoencoder`, or a plain module that maps rows to codes.
    n_features : int
        Width of the rows.
    default : callable
        Builds the encoder where none is given.

    Returns
    -------
    torch.nn.Module
        In float32; maps ``(n, n_features)`` to ``(n, latent_dim)``.

    Raises
    ------
    ValueError
        If the network does not fit the rows.
    """
    if network is None:
        return default()
    built = _built(network, n_features)
    if not isinstance(built, nn.Module):
        raise ValueError(
            f"network must be a torch.nn.Module, or a callable that returns one: {built!r}."
        )
    if isinstance(getattr(built, "encoder", None), nn.Module):
        built = built.encoder
    codes = _outputs(built, n_features)
    shape = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes).__name__
    if len(shape) != 2 or shape[0] != 2:
        raise ValueError(
            "network must map rows to codes of shape (n, latent_dim), or have a sub-module encoder that "
            f"does; for 2 rows it returned {shape}."
        )
    return built


def _built(network: nn.Module | Callable[[int], nn.Module], n_features: int):
    built = copy.deepcopy(network) if isinstance(network, nn.Module) else network(n_features)
    return built.float() if isinstance(built, nn.Module) else built


def _outputs(network: nn.Module, n_features: int):
    """What a network makes of two rows."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return network(torch.zeros(2, n_features, device=device))
    except RuntimeError as error:
        raise ValueError(
            f"network does not take rows of {n_features} features: {error}. Build it for the data, or "
            "pass a callable that takes the number of features."
        ) from error
    finally:
        network.train(training)
