"""What an optimizer remembers, as arrays that any machine can read."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_moments", "moments_as_arrays", "moments_as_tensors"]


def check_moments(arrays: dict[str, dict], parameters: Sequence[Tensor]) -> None:
    """Refuse moments of other parameters: a fused step reads and writes as far as the parameter goes.

    Parameters
    ----------
    arrays : dict
        What :func:`moments_as_arrays` returns for an optimizer that has a name.
    parameters : sequence of Tensor
        In the order in which the optimizer numbers them.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_moments({"0": {"step": np.zeros(1, dtype=np.float32)}}, [torch.zeros(2)])
    Traceback (most recent call last):
    ...
    ValueError: the optimizer's 'step' of parameter '0' is none
    """
    if not isinstance(arrays, dict):
        raise ValueError("the optimizer's moments are none")
    for number, moments in arrays.items():
        if not (number.isdecimal() and int(number) < len(parameters) and isinstance(moments, dict)):
            raise ValueError(f"the optimizer's moments of parameter {number!r:.20} are none")
        for name, value in moments.items():
            shape = () if name == "step" else tuple(parameters[int(number)].shape)
            if getattr(value, "shape", None) != shape or value.dtype != np.float32:
                raise ValueError(
                    f"the optimizer's {name!r:.40} of parameter {number!r:.20} is none"
                )


def moments_as_arrays(state: dict[int, dict]) -> dict[str, dict]:
    """Turn an optimizer's state, by number of the parameter, into arrays.

    Parameters
    ----------
    state : dict
        ``optimizer.state_dict()["state"]``.

    Returns
    -------
    dict

    Examples
    --------
    >>> moments_as_arrays({0: {"step": torch.tensor(3.0)}})
    {'0': {'step': array(3., dtype=float32)}}
    """
    return {
        str(number): {
            name: value.detach().cpu().numpy().copy() if isinstance(value, Tensor) else value
            for name, value in moments.items()
        }
        for number, moments in state.items()
    }


def moments_as_tensors(arrays: dict[str, dict]) -> dict[int, dict]:
    """Turn what :func:`moments_as_arrays` returned back.

    Examples
    --------
    >>> moments_as_tensors({"0": {"step": np.array(3.0)}})
    {0: {'step': tensor(3., dtype=torch.float64)}}
    """
    return {
        int(number): {
            name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for name, value in moments.items()
        }
        for number, moments in arrays.items()
    }
