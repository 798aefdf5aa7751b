"""Networks are built in float32, and torch's default type is left to the other threads."""

import numpy as np
import pytest
import torch
from torch import nn

from anomaly_estimators.training.precision import SinglePrecision

MADE = {
    "zeros": lambda: torch.zeros(2, 3),
    "ones": lambda: torch.ones((2, 3)),
    "empty": lambda: torch.empty(2).fill_(1),
    "eye": lambda: torch.eye(3),
    "rand": lambda: torch.rand(3),
    "randn": lambda: torch.randn(3),
    "normal": lambda: torch.normal(0.0, 1.0, (3,)),
    "linspace": lambda: torch.linspace(0, 0.1, 7),
    "logspace": lambda: torch.logspace(0, 0.1, 7),
    "full": lambda: torch.full((2,), 0.1),
    "arange": lambda: torch.arange(0, 1, 0.1),
    "tensor": lambda: torch.tensor([[0.1, 0.2]]),
    "as_tensor": lambda: torch.as_tensor([0.1, 1]),
    "asarray": lambda: torch.asarray(0.1),
    "scalar_tensor": lambda: torch.scalar_tensor(3),
    "hann_window": lambda: torch.hann_window(5),
    "fftfreq": lambda: torch.fft.fftfreq(5),
    "Linear": lambda: nn.Linear(3, 2).weight,
    "LSTM": lambda: nn.LSTM(3, 2).weight_hh_l0,
    "BatchNorm1d": lambda: nn.BatchNorm1d(3).running_var,
    # Of another type wherever they are made.
    "whole": lambda: torch.full((2,), 1),
    "whole numbers": lambda: torch.tensor([1, 2]),
    "range of whole numbers": lambda: torch.arange(3),
    "randint": lambda: torch.randint(9, (3,)),
    "double": lambda: torch.zeros(3, dtype=torch.float64),
    "array": lambda: torch.tensor(np.arange(3.0)),
    "number": lambda: torch.tensor(np.float64(0.1)),
    "from_numpy": lambda: torch.from_numpy(np.arange(3.0)),
    "like": lambda: torch.zeros_like(torch.zeros(2, dtype=torch.float64)),
    "new": lambda: torch.zeros(2, dtype=torch.float16).new_zeros(2),
    "half": lambda: torch.as_tensor(torch.ones(2, dtype=torch.float16)),
    "normal, double": lambda: torch.normal(torch.zeros(2, dtype=torch.float64), 1.0),
}


@pytest.mark.parametrize("name", MADE)
def test_tensors_are_those_of_a_default_of_float32(name):
    torch.manual_seed(0)
    expected = MADE[name]()
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        with SinglePrecision():
            made = MADE[name]()
            assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert made.dtype == expected.dtype
    assert torch.equal(made, expected)
