"""The fused objective against autograd through the plain equations."""

import pytest
import torch
from torch.testing import assert_close

from anomaly_estimators.functional.mixture import (
    covariance_penalty,
    mixture_energy,
    mixture_moments,
    mixture_parameters,
    regularised_cholesky,
)
from anomaly_estimators.functional.mixture_objective import mixture_objective


def plain_objective(z, gamma, ridge=1e-6):
    weights, means, covariances = mixture_parameters(mixture_moments(z, gamma))
    cholesky = regularised_cholesky(covariances, ridge=ridge)
    energy = mixture_energy(z, weights, means, cholesky).mean()
    return energy, covariance_penalty(covariances, ridge=ridge)


def inputs(n, d, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=generator, dtype=torch.float64)
    logits = 2.0 * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return z.requires_grad_(), logits.requires_grad_()


@pytest.mark.parametrize(("n", "d", "k"), [(30, 3, 4), (12, 1, 2), (40, 5, 1), (200, 4, 3)])
@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.1, 0.005)])
def test_value_and_gradient_equal_those_of_the_plain_equations(n, d, k, ridge, weights):
    z, logits = inputs(n, d, k)
    results = []
    for objective in (mixture_objective, plain_objective):
        energy, penalty = objective(z, torch.softmax(logits, dim=1), ridge=ridge)
        total = weights[0] * energy + weights[1] * penalty
        results.append((energy, penalty, *torch.autograd.grad(total, (z, logits))))
    fused, plain = results
    assert_close(fused, plain, rtol=1e-8, atol=1e-10)


def test_gradient_passes_gradcheck():
    z, logits = inputs(12, 2, 3)

    def objective(z, logits):
        return mixture_objective(z, torch.softmax(logits, dim=1), ridge=1e-3)

    assert torch.autograd.gradcheck(objective, (z, logits))


def test_step_can_be_mapped_over_models():
    z = torch.stack([inputs(15, 2, 3, seed)[0].detach() for seed in range(4)])
    gamma = torch.stack([inputs(15, 2, 3, seed)[1].softmax(1).detach() for seed in range(4)])

    def loss(z, gamma):
        energy, penalty = mixture_objective(z, gamma)
        return energy + 0.1 * penalty

    mapped = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(z, gamma)
    for i in range(4):
        single = torch.func.grad(loss, argnums=(0, 1))(z[i], gamma[i])
        assert_close(mapped[0][i], single[0])
        assert_close(mapped[1][i], single[1])


def test_float32_inputs_are_computed_in_float64():
    z, logits = inputs(30, 3, 4)
    gamma = torch.softmax(logits, dim=1).float().detach().requires_grad_()
    single = z.detach().float().requires_grad_()
    energy, penalty = mixture_objective(single, gamma)
    assert energy.dtype == penalty.dtype == torch.float64
    (energy + penalty).backward()
    assert single.grad.dtype == gamma.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("z", "logits"),
    [
        pytest.param(torch.randn(8, 3), torch.tensor([1e3, -1e3]).expand(8, 2), id="empty"),
        pytest.param(torch.ones(8, 3), torch.zeros(8, 2), id="constant rows"),
        pytest.param(torch.randn(2, 5), torch.zeros(2, 3), id="fewer rows than dimensions"),
        pytest.param(torch.randn(1, 3), torch.zeros(1, 2), id="one row"),
        pytest.param(torch.zeros(5, 2), torch.zeros(5, 2), id="zeros"),
        pytest.param(1e30 * torch.randn(9, 3), torch.zeros(9, 2), id="huge"),
        pytest.param(1e-30 * torch.randn(9, 3), torch.zeros(9, 2), id="tiny"),
    ],
)
def test_degenerate_batches_have_finite_values_and_gradients(z, logits):
    z = z.double().clone().requires_grad_()
    logits = logits.double().clone().requires_grad_()
    energy, penalty = mixture_objective(z, torch.softmax(logits, dim=1))
    assert energy.isfinite() and penalty.isfinite()
    gradients = torch.autograd.grad(energy + penalty, (z, logits))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert_close((energy, penalty), plain_objective(z, torch.softmax(logits, dim=1)))
