"""The state of the process that a fit has to leave as it was."""

import os
import pickle
import random
import warnings

import numpy as np
import pandas as pd
import scipy.sparse
import sklearn
import torch

__all__ = ["changes", "contents", "global_state"]


def global_state(numpy_random: bool = True) -> dict:
    """All that a fit may not touch, by name.

    Parameters
    ----------
    numpy_random : bool, default=True
        Whether NumPy's generator is among it: ``random_state=None`` draws from it, as in scikit-learn.
    """
    state = {
        "torch's generator": torch.random.get_rng_state().numpy().tobytes(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's threads": torch.get_num_threads(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's inference mode": torch.is_inference_mode_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "Python's generator": random.getstate(),
        "the warnings filters": list(warnings.filters),
        "os.environ": dict(os.environ),
        "the working directory": os.getcwd(),
        "numpy's errors": np.geterr(),
        "scikit-learn's configuration": sklearn.get_config(),
    }
    if numpy_random:
        state["numpy's generator"] = pickle.dumps(np.random.get_state())  # noqa: NPY002
    return state


def changes(before: dict, after: dict) -> list[str]:
    """Names of what is different."""
    return [name for name, value in before.items() if after[name] != value]


def contents(X) -> bytes:
    """All that an input holds, to tell whether it was changed; nothing for what is used up by reading."""
    if isinstance(X, pd.DataFrame | pd.Series):
        axes = [str(X.dtypes), list(X.index), list(getattr(X, "columns", []))]
        return pickle.dumps([X.to_numpy().tolist(), axes])
    if isinstance(X, np.ma.MaskedArray):
        return pickle.dumps([X.data.tolist(), X.mask.tolist()])
    if isinstance(X, np.ndarray):
        cells = X.tolist() if X.dtype == object else X.tobytes()
        return pickle.dumps([cells, X.dtype.str, X.shape, X.strides, X.flags.writeable])
    if isinstance(X, torch.Tensor):
        cells = X.detach().double().numpy().tobytes()
        return pickle.dumps([cells, X.dtype, X.requires_grad, X.grad is None])
    if isinstance(X, torch.utils.data.TensorDataset):
        return contents(X.tensors[0])
    if scipy.sparse.issparse(X):
        return contents(X.toarray()) + X.format.encode()
    if isinstance(X, list | tuple | dict):
        return pickle.dumps(str(X))
    return b""
