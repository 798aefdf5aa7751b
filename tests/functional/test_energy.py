"""Energies, their gradients and the loss against NumPy, differences and Gaussians."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import softplus

from anomaly_estimators.functional.energy import (
    denoising_score_matching_loss,
    energy_gradient,
    energy_reconstruction,
    quadratic_energy,
)

some = settings(max_examples=25, deadline=None, derandomize=True, database=None)
shapes = {"n": st.integers(1, 6), "d": st.integers(1, 5), "k": st.integers(1, 4)}


@some
@given(seed=st.integers(0, 1000), **shapes)
def test_energy_is_the_formula_row_by_row(n, d, k, seed):
    rng = np.random.default_rng(seed)
    X, H, bias = rng.normal(size=(n, d)), rng.normal(size=(n, k)), rng.normal(size=d)
    found = quadratic_energy(*map(torch.from_numpy, (X, H, bias)))
    expected = [0.5 * np.dot(x - bias, x - bias) - sum(h) for x, h in zip(X, H, strict=True)]
    assert found.shape == (n,) and found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def one_layer(d, k, seed):
    """Energy with one softplus layer, and its parameters."""
    rng = np.random.default_rng(seed)
    W, b, bias = rng.normal(size=(d, k)), rng.normal(size=k), rng.normal(size=d)
    weights = tuple(torch.from_numpy(p).requires_grad_() for p in (W, b, bias))

    def energy(X):
        return quadratic_energy(X, softplus(X @ weights[0] + weights[1]), weights[2])

    return energy, weights, (W, b, bias)


@some
@given(seed=st.integers(0, 1000), **shapes)
def test_one_softplus_layer_is_an_autoencoder_with_tied_weights(n, d, k, seed):
    energy, _, (W, b, bias) = one_layer(d, k, seed)
    X = np.random.default_rng(seed + 1).normal(size=(n, d))
    expected = bias + 1 / (1 + np.exp(-(X @ W + b))) @ W.T
    found = energy_reconstruction(energy, torch.from_numpy(X))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    gradient = energy_gradient(energy, torch.from_numpy(X))
    np.testing.assert_allclose(gradient, X - expected, rtol=1e-10, atol=1e-12)


@some
@given(seed=st.integers(0, 1000), n=st.integers(1, 6), d=st.integers(1, 5))
def test_gradient_of_a_quadratic_form_is_its_matrix(n, d, seed):
    rng = np.random.default_rng(seed)
    A, X = rng.normal(size=(d, d)), rng.normal(size=(n, d))
    matrix = torch.from_numpy(A)
    found = energy_gradient(lambda rows: ((rows @ matrix) * rows).sum(1), torch.from_numpy(X))
    np.testing.assert_allclose(found, X @ (A + A.T), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_leaves_no_trace(mode):
    energy, weights, _ = one_layer(3, 2, 0)
    X = torch.ones(4, 3, dtype=torch.float64)
    expected = energy_gradient(energy, X)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = energy_gradient(energy, X * 1.0)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert all(p.grad is None for p in weights) and X.grad is None and not X.requires_grad


def test_gradient_can_be_differentiated_by_the_parameters():
    """Of the one-layer model against the derivative of the loss written out with tied weights."""
    energy, weights, (W, b, bias) = one_layer(3, 2, 0)
    rng = np.random.default_rng(1)
    X, noisy = rng.normal(size=(2, 5, 3))
    loss = denoising_score_matching_loss(
        torch.from_numpy(X),
        energy_reconstruction(energy, torch.from_numpy(noisy), create_graph=True),
    )
    found = torch.autograd.grad(loss, weights)
    tied = [torch.from_numpy(p).requires_grad_() for p in (W, b, bias)]
    code = torch.sigmoid(torch.from_numpy(noisy) @ tied[0] + tied[1])
    error = torch.from_numpy(X) - tied[2] - code @ tied[0].T
    again = (error**2).sum() / 5
    assert loss.item() == pytest.approx(again.item(), rel=1e-12)
    for mine, theirs in zip(found, torch.autograd.grad(again, tied), strict=True):
        assert mine.abs().min() > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@some
@given(seed=st.integers(0, 1000), n=st.integers(1, 6), d=st.integers(1, 5))
def test_loss_is_the_mean_of_squared_distances(n, d, seed):
    X, R = np.random.default_rng(seed).normal(size=(2, n, d))
    found = denoising_score_matching_loss(torch.from_numpy(X), torch.from_numpy(R))
    assert found.shape == ()
    expected = np.mean([np.linalg.norm(x - r) ** 2 for x, r in zip(X, R, strict=True)])
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_loss_is_least_at_the_energy_of_noisy_rows(noise):
    """Of Gaussian rows: noise^2 times the energy of N(mean, covariance + noise^2 I)."""
    rng = np.random.default_rng(0)
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    root = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=torch.float64)
    X = mean + torch.from_numpy(rng.normal(size=(200_000, 2))) @ root.T
    noisy = X + noise * torch.from_numpy(rng.normal(size=(200_000, 2)))
    best = noise**2 * torch.linalg.inv(root @ root.T + noise**2 * torch.eye(2))

    def loss(factor=1.0, shift=0.0, turn=0.0):
        precision = factor * best + turn * torch.tensor([[0.0, 1.0], [1.0, 0.0]])

        def energy(rows):
            centred = rows - mean - shift
            return 0.5 * ((centred @ precision) * centred).sum(1)

        return denoising_score_matching_loss(X, energy_reconstruction(energy, noisy)).item()

    least = loss()
    for other in ({"factor": 0.9}, {"factor": 1.1}, {"shift": 0.2}, {"turn": 0.1}, {"turn": -0.1}):
        assert loss(**other) > least
