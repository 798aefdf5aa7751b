"""Schedules: factors on a learning rate or a weight, as functions of the share that has passed."""

import math
from collections.abc import Callable

__all__ = [
    "SCHEDULES",
    "constant",
    "cosine",
    "cyclical",
    "linear",
    "rising",
    "step",
    "two_phase",
    "warmup_cosine",
]


def constant(progress: float) -> float:
    """Return 1 throughout.

    Examples
    --------
    >>> constant(0.5)
    1.0
    """
    return 1.0


def linear(progress: float) -> float:
    """Fall linearly from 1 to 0.

    Examples
    --------
    >>> linear(0.25)
    0.75
    """
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts).

    Examples
    --------
    >>> round(cosine(0.5), 6)
    0.5
    """
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def step(progress: float) -> float:
    """Return 1 for the first two thirds, then a tenth: the two-rate rule of Deep SVDD.

    Examples
    --------
    >>> step(0.5), step(0.7)
    (1.0, 0.1)
    """
    return 1.0 if progress < 2.0 / 3.0 else 0.1


def two_phase(progress: float) -> float:
    """Return 1 for the first third, then a tenth: Deep SAD's searching and fine-tuning.

    Examples
    --------
    >>> two_phase(0.3), two_phase(0.4)
    (1.0, 0.1)
    """
    return 1.0 if progress < 1.0 / 3.0 else 0.1


def warmup_cosine(progress: float, *, warmup: float = 0.05) -> float:
    """Rise linearly over the first ``warmup`` share, then fall along half a cosine.

    Examples
    --------
    >>> round(warmup_cosine(0.025), 6)
    0.5
    """
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    return cosine((progress - warmup) / (1.0 - warmup))


def rising(progress: float, *, share: float = 0.5) -> float:
    """Rise linearly from 0 to 1 over the first ``share``, then stay.

    Examples
    --------
    >>> rising(0.25), rising(0.75)
    (0.5, 1.0)
    """
    return min(1.0, progress / share)


def cyclical(progress: float, *, n_cycles: int = 4, share: float = 0.5) -> float:
    """Rise from 0 to 1 over the first ``share`` of each of several cycles, and stay for its rest.

    The cyclical annealing of Fu et al. 2019, eq 6 and 7, with its four cycles.

    Examples
    --------
    >>> [cyclical(progress) for progress in (0.0, 0.0625, 0.2, 0.25, 0.3125, 1.0)]
    [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    """
    if progress >= 1.0:
        return 1.0
    return rising(progress * n_cycles % 1.0, share=share)


#: The schedules of the learning rate that can be asked for by name.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "two_phase": two_phase,
    "warmup_cosine": warmup_cosine,
}
