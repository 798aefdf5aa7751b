"""Random numbers that belong to a fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anomaly_estimators.nn.randomness import drawing_from

__all__ = ["isolated_randomness"]


@contextmanager
def isolated_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Give a training block in this thread generators of its own.

    The library's layers draw from them, and what else is called within
    :func:`~anomaly_estimators.training.redirection.redirected`. Nothing that another thread can see
    is read or moved.

    Parameters
    ----------
    seed : int
    device : torch.device
        Where the block draws from, beside the CPU.

    Examples
    --------
    >>> from anomaly_estimators.nn.randomness import rand_like
    >>> before = torch.random.get_rng_state()
    >>> with isolated_randomness(0, torch.device("cpu")):
    ...     a = rand_like(torch.zeros(1))
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """
    places = {"cpu": torch.device("cpu"), device.type: device}
    generators = {kind: torch.Generator(place).manual_seed(seed) for kind, place in places.items()}
    # The gradients, also for a caller who has switched them off.
    with drawing_from(generators), torch.inference_mode(False), torch.enable_grad():
        yield
