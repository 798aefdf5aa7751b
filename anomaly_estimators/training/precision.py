"""Single precision, whatever torch's default type is."""

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["SinglePrecision"]

# What they return is of the default type,
_MAKING_FLOATS = frozenset(
    "bartlett_window blackman_window empty eye fft_fftfreq fft_rfftfreq hamming_window hann_window "
    "kaiser_window linspace logspace normal ones rand randn scalar_tensor zeros".split()
)
# and of the default type unless they are given whole numbers.
_MAKING = _MAKING_FLOATS | frozenset("arange as_tensor asarray full range tensor".split())


class SinglePrecision(TorchFunctionMode):
    """Build networks in float32 for the time of a block, whatever torch's default type is.

    The default type itself is that of all threads, and stays as it is. Casting the finished network
    instead would also cast what a method keeps in float64 on purpose.

    Examples
    --------
    >>> with SinglePrecision():
    ...     torch.zeros(1).dtype
    torch.float32
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", None)
        if name not in _MAKING or kwargs.get("dtype") is not None or _typed(args, kwargs):
            return func(*args, **kwargs)
        if name in _MAKING_FLOATS:
            return func(*args, **{**kwargs, "dtype": torch.float32})
        made = func(*args, **kwargs)
        return made.float() if made.is_floating_point() else made


def _typed(args: tuple, kwargs: dict) -> bool:
    """Whether something is given that has a type of its own."""
    own = (Tensor, np.ndarray, np.generic)
    return any(isinstance(value, own) for value in (*args, *kwargs.values()))
