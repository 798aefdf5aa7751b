"""Where random numbers come from: the generators of the fit that a thread is in."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = [
    "Dropout",
    "Dropout2d",
    "current_generators",
    "drawing_from",
    "generator_for",
    "rand_like",
    "randn_like",
]

_thread = threading.local()


@contextmanager
def drawing_from(generators: Mapping[str, torch.Generator]) -> Iterator[None]:
    """Let what this thread draws come from own generators for the time of a block.

    Other threads, and torch's global generators, are not touched.

    Parameters
    ----------
    generators : mapping of str to torch.Generator
        One for each type of device.

    Examples
    --------
    >>> with drawing_from({"cpu": torch.Generator().manual_seed(0)}):
    ...     first = rand_like(torch.zeros(2))
    >>> torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(0)))
    True
    """
    before = current_generators()
    _thread.generators = generators
    try:
        yield
    finally:
        _thread.generators = before


def current_generators() -> Mapping[str, torch.Generator] | None:
    """Generators that this thread draws from, by type of device; None for torch's global ones."""
    return getattr(_thread, "generators", None)


def generator_for(device: torch.device) -> torch.Generator | None:
    """Generator to draw from on a device, as torch's functions take it: None for the global one.

    Examples
    --------
    >>> torch.randn(3, generator=generator_for(torch.device("cpu"))).shape
    torch.Size([3])
    """
    generators = current_generators()
    return None if generators is None else generators.get(device.type)


def rand_like(X: Tensor) -> Tensor:
    """Uniform numbers of [0, 1) in the shape of a tensor, of any shape."""
    return torch.empty_like(X).uniform_(generator=generator_for(X.device))


def randn_like(X: Tensor) -> Tensor:
    """Standard normal numbers in the shape of a tensor, of any shape."""
    return torch.empty_like(X).normal_(generator=generator_for(X.device))


class Dropout(nn.Dropout):
    """:class:`torch.nn.Dropout` whose masks come from the generator of the fit.

    Examples
    --------
    >>> Dropout(0.5).eval()(torch.ones(2))
    tensor([1., 1.])
    """

    def forward(self, X: Tensor) -> Tensor:
        generator = generator_for(X.device)
        if generator is None or not self.training or self.p in (0, 1):
            return super().forward(X)
        return _masked(X, torch.empty_like(X), self.p, generator)


class Dropout2d(nn.Dropout2d):
    """:class:`torch.nn.Dropout2d` whose masks come from the generator of the fit.

    Examples
    --------
    >>> Dropout2d(0.5).eval()(torch.ones(1, 2, 1, 1)).flatten()
    tensor([1., 1.])
    """

    def forward(self, X: Tensor) -> Tensor:
        generator = generator_for(X.device)
        if generator is None or not self.training or self.p in (0, 1):
            return super().forward(X)
        return _masked(X, X.new_empty((*X.shape[:2], 1, 1)), self.p, generator)


def _masked(X: Tensor, mask: Tensor, p: float, generator: torch.Generator) -> Tensor:
    # As torch does it on the CPU, whose own function takes no generator.
    return X * mask.bernoulli_(1 - p, generator=generator).div_(1 - p)
