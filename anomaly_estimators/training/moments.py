"""What an optimizer remembers, as arrays that any machine can read."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["moments_as_arrays", "moments_as_tensors"]


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
