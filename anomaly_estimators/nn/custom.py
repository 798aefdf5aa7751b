"""Networks that users bring."""

import copy
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["build_autoencoder"]


def build_autoencoder(
    network: nn.Module | Callable[[int], nn.Module] | None,
    n_features: int,
    default: Callable[[], nn.Module],
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
    built = copy.deepcopy(network) if isinstance(network, nn.Module) else network(n_features)
    if not isinstance(built, nn.Module) or not all(
        isinstance(getattr(built, part, None), nn.Module) for part in ("encoder", "decoder")
    ):
        raise ValueError(
            "network must be a torch.nn.Module with the sub-modules encoder and decoder (or a callable "
            "that returns one), whose forward pass returns (code, reconstruction): see "
            "anomaly_estimators.nn.autoencoder.AutoencoderNetwork(encoder, decoder)."
        )
    built = built.float()
    device = next((p.device for p in built.parameters()), torch.device("cpu"))
    training = built.training
    built.eval()
    try:
        with torch.no_grad():
            outputs = built(torch.zeros(2, n_features, device=device))
    except RuntimeError as error:
        raise ValueError(
            f"network does not take rows of {n_features} features: {error}. Build it for the data, or "
            "pass a callable that takes the number of features."
        ) from error
    finally:
        built.train(training)
    shapes = [tuple(getattr(output, "shape", ())) for output in outputs]
    if len(shapes) != 2 or len(shapes[0]) != 2 or shapes[1] != (2, n_features):
        raise ValueError(
            "The forward pass of network must return the codes (n, latent_dim) and the reconstructions "
            f"(n, {n_features}); for 2 rows it returned the shapes {shapes}."
        )
    return built
