"""Threads of torch in a process that was forked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["usable_threads"]

_PROCESS = os.getpid()


@contextmanager
def usable_threads() -> Iterator[None]:
    """Compute with one thread for the time of a block where the process was forked from another.

    The threads that torch has started stay behind in the parent; the child's copy of their pool waits
    for them for ever.

    Examples
    --------
    >>> with usable_threads():
    ...     float(torch.ones(2).sum())
    2.0
    """
    n_threads = torch.get_num_threads()
    if os.getpid() == _PROCESS or n_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
