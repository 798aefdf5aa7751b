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
