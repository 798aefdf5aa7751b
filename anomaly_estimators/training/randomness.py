"""Seeds and types that stay inside a fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["isolated_randomness", "single_precision"]


@contextmanager
def isolated_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for the time of a training block and put the global generators back after it.

    Only the generators that the block can draw from are touched: the CPU's, and that of ``device``.

    Parameters
    ----------
    seed : int
    device : torch.device

    Examples
    --------
    >>> before = torch.random.get_rng_state()
    >>> with isolated_randomness(0, torch.device("cpu")):
    ...     a = torch.rand(1)
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would seed every accelerator, also those that are not put back.
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        # Also for a caller who has switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            yield


@contextmanager
def single_precision() -> Iterator[None]:
    """Build networks in float32 for the time of a block, whatever torch's default type is.

    Casting the finished network instead would also cast what a method keeps in float64 on purpose.

    Examples
    --------
    >>> with single_precision():
    ...     torch.zeros(1).dtype
    torch.float32
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
