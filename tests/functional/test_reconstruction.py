"""Reconstruction features against NumPy and scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial import distance

from anomaly_estimators.functional.reconstruction import (
    RECONSTRUCTION_FEATURES,
    cosine_distance,
    cosine_similarity,
    euclidean_distance,
    normalised_squared_error,
    relative_euclidean_distance,
    squared_error,
)

NORM = np.linalg.norm
REFERENCES = {
    squared_error: lambda x, r: ((x - r) ** 2).sum(),
    euclidean_distance: distance.euclidean,
    relative_euclidean_distance: lambda x, r: NORM(x - r) / NORM(x),
    cosine_similarity: lambda x, r: x @ r / (NORM(x) * NORM(r)),
    cosine_distance: distance.cosine,
}


def test_every_named_feature_has_a_reference():
    assert set(RECONSTRUCTION_FEATURES.values()) == set(REFERENCES)


@pytest.mark.parametrize("feature", REFERENCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_feature_equals_its_formula(feature, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 5)).astype(dtype)
    R = rng.normal(size=(12, 5)).astype(dtype)
    found = feature(torch.from_numpy(X), torch.from_numpy(R))
    expected = [REFERENCES[feature](x, r) for x, r in zip(X, R, strict=True)]
    assert found.shape == (12,)
    assert found.numpy().dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("feature", REFERENCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("zero", ["row", "reconstruction", "both", "perfect"])
def test_rows_of_zeros_have_finite_features_and_gradients(feature, zero):
    X, R = torch.randn(4, 3), torch.randn(4, 3)
    if zero in ("row", "both"):
        X = torch.zeros(4, 3)
    if zero in ("reconstruction", "both"):
        R = torch.zeros(4, 3)
    if zero == "perfect":
        R = X.clone()
    X.requires_grad_()
    R.requires_grad_()
    found = feature(X, R)
    assert found.isfinite().all()
    gradients = torch.autograd.grad(found.sum(), (X, R))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_zero_rows_are_divided_by_the_floor():
    zero, one = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert relative_euclidean_distance(zero, zero).item() == 0.0
    assert relative_euclidean_distance(zero, one, eps=0.5).item() == pytest.approx(10.0)
    assert cosine_similarity(zero, one).item() == 0.0
    assert cosine_distance(zero, one).item() == 1.0


@pytest.mark.parametrize("feature", REFERENCES, ids=lambda f: f.__name__)
def test_gradient_is_that_of_finite_differences(feature):
    generator = torch.Generator().manual_seed(0)
    X, R = (
        torch.randn(3, 4, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(2)
    )
    assert torch.autograd.gradcheck(feature, (X, R))


# The error that is divided by the norm of the row


@pytest.mark.parametrize("shape", [(12, 5), (4, 3, 5), (5,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalised_error_equals_its_formula(shape, dtype):
    rng = np.random.default_rng(0)
    X, R = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    found = normalised_squared_error(torch.from_numpy(X), torch.from_numpy(R))
    expected = NORM(X - R, axis=-1) ** 2 / NORM(X, axis=-1)
    assert found.shape == shape[:-1] and found.numpy().dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("size", [1e-3, 7.0, 1e6])
def test_normalised_error_grows_with_the_size_of_rows(size):
    """By the norm, not its square: of twice the row and twice the residual it is twice as large."""
    X, R = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scaled = normalised_squared_error(size * X, size * R)
    torch.testing.assert_close(scaled, size * normalised_squared_error(X, R))


def test_normalised_error_of_zero_rows_and_of_perfect_ones():
    zero, one = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert normalised_squared_error(zero, zero).item() == 0.0
    assert normalised_squared_error(one, one).item() == 0.0
    assert normalised_squared_error(zero, one).item() == pytest.approx(25e6)
    assert normalised_squared_error(zero, one, eps=0.5).item() == pytest.approx(50.0)
    assert normalised_squared_error(one, zero).item() == pytest.approx(5.0)


def test_gradient_of_the_normalised_error():
    generator = torch.Generator().manual_seed(0)
    X, R = (
        torch.randn(3, 4, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(2)
    )
    assert torch.autograd.gradcheck(normalised_squared_error, (X, R))
    for X, R in ((torch.zeros(2, 3), torch.ones(2, 3)), (torch.zeros(2, 3), torch.zeros(2, 3))):
        inputs = X.requires_grad_(), R.requires_grad_()
        slopes = torch.autograd.grad(normalised_squared_error(*inputs).sum(), inputs)
        assert all(slope.isfinite().all() for slope in slopes)
