"""The mixture of DAGMM against scipy, NumPy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from torch.testing import assert_close

from anomaly_estimators.functional.mixture import (
    MixtureMoments,
    component_log_density,
    covariance_penalty,
    merge_moments,
    mixture_energy,
    mixture_moments,
    mixture_parameters,
    negative_evidence_bound,
    regularised_cholesky,
)


def soft_mixture(n=60, d=3, k=4, seed=0):
    """Rows around several centres, and memberships that sum to 1."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.integers(0, 3, size=(n, 1))
    gamma = rng.dirichlet(np.ones(k), size=n)
    return torch.from_numpy(z), torch.from_numpy(gamma)


def random_parameters(d=3, k=4, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(k))
    means = rng.normal(size=(k, d))
    roots = rng.normal(size=(k, d, d))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(d)
    return weights, means, covariances


@pytest.mark.parametrize(("d", "k"), [(1, 1), (1, 3), (3, 4), (6, 2)])
def test_energy_is_the_negative_log_density_of_scipy(d, k):
    weights, means, covariances = random_parameters(d, k)
    z = np.random.default_rng(1).normal(scale=3.0, size=(20, d))
    expected = np.array(
        [
            multivariate_normal(means[j], covariances[j]).logpdf(z).reshape(20)
            + math.log(weights[j])
            for j in range(k)
        ]
    ).T
    cholesky = torch.linalg.cholesky(torch.from_numpy(covariances))
    parameters = (torch.from_numpy(weights), torch.from_numpy(means), cholesky)

    assert_close(
        component_log_density(torch.from_numpy(z), *parameters), torch.from_numpy(expected)
    )
    assert_close(
        mixture_energy(torch.from_numpy(z), *parameters),
        torch.from_numpy(-logsumexp(expected, axis=1)),
    )


def test_energy_of_a_far_row_does_not_overflow():
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    weights = torch.full((2,), 0.5, dtype=torch.float64)
    means = torch.zeros(2, 1, dtype=torch.float64)
    z = torch.tensor([[1e6]], dtype=torch.float64)
    energy = mixture_energy(z, weights, means, one)
    assert_close(energy, torch.tensor([5e11 + 0.5 * math.log(2 * math.pi)], dtype=torch.float64))


def test_parameters_are_the_weighted_moments_of_numpy():
    z, gamma = soft_mixture()
    weights, means, covariances = mixture_parameters(mixture_moments(z, gamma))
    for j in range(gamma.shape[1]):
        aweights = gamma[:, j].numpy()
        np.testing.assert_allclose(weights[j], aweights.mean(), rtol=1e-12)
        np.testing.assert_allclose(
            means[j], np.average(z.numpy(), axis=0, weights=aweights), rtol=1e-10
        )
        np.testing.assert_allclose(
            covariances[j], np.cov(z.numpy().T, aweights=aweights, ddof=0), rtol=1e-10
        )


def test_one_step_equals_the_m_step_of_scikit_learn():
    z, gamma = soft_mixture()
    reference = GaussianMixture(n_components=4, reg_covar=0.0)
    reference._initialize(z.numpy(), gamma.numpy())
    weights, means, covariances = mixture_parameters(mixture_moments(z, gamma))
    np.testing.assert_allclose(weights, reference.weights_, rtol=1e-10)
    np.testing.assert_allclose(means, reference.means_, rtol=1e-10)
    np.testing.assert_allclose(covariances, reference.covariances_, rtol=1e-8)
    energy = mixture_energy(z, weights, means, regularised_cholesky(covariances, ridge=0.0))
    np.testing.assert_allclose(-energy, reference.score_samples(z.numpy()), rtol=1e-8)


@pytest.mark.parametrize("cuts", [(1,), (30,), (1, 2, 59), (10, 20, 30, 40, 50)])
def test_moments_of_parts_merge_into_those_of_the_whole(cuts):
    z, gamma = soft_mixture()
    merged = None
    for rows in np.split(np.arange(60), cuts):
        part = mixture_moments(z[rows], gamma[rows])
        merged = part if merged is None else merge_moments(merged, part)
    assert_close(merged, mixture_moments(z, gamma))


def test_merging_does_not_cancel_far_from_the_origin():
    z, gamma = soft_mixture()
    near = mixture_moments(z, gamma)
    shifted = z + 1e7
    far = merge_moments(
        mixture_moments(shifted[:30], gamma[:30]), mixture_moments(shifted[30:], gamma[30:])
    )
    assert_close(far.scatter, near.scatter, rtol=1e-6, atol=1e-6)


def test_merging_with_an_empty_part_changes_nothing():
    z, gamma = soft_mixture()
    whole = mixture_moments(z, gamma)
    empty = MixtureMoments(*(torch.zeros_like(part) for part in whole))
    for merged in (merge_moments(whole, empty), merge_moments(empty, whole)):
        assert_close(merged, whole)
    for part in merge_moments(empty, empty):
        assert not part.any()


def test_penalty_sums_the_inverse_variances_of_all_components():
    _, _, covariances = random_parameters()
    expected = sum(1.0 / covariances[j, i, i] for j in range(4) for i in range(3))
    penalty = covariance_penalty(torch.from_numpy(covariances), ridge=0.0)
    np.testing.assert_allclose(penalty, expected, rtol=1e-12)
    # The default ridge is a relative matter of 1e-6.
    np.testing.assert_allclose(
        covariance_penalty(torch.from_numpy(covariances)), expected, rtol=1e-4
    )


def test_evidence_bound_is_the_energy_plus_the_divergence_from_the_posterior():
    z, gamma = soft_mixture()
    weights, means, covariances = mixture_parameters(mixture_moments(z, gamma))
    cholesky = regularised_cholesky(covariances)
    log_density = component_log_density(z, weights, means, cholesky)
    energy = mixture_energy(z, weights, means, cholesky)
    bound = negative_evidence_bound(log_density, gamma.log())

    posterior = torch.softmax(log_density, dim=1)  # p(k | z), by Bayes' rule
    divergence = (gamma * (gamma / posterior).log()).sum(dim=1)
    assert_close(bound, energy + divergence)
    assert (bound >= energy).all()
    assert (bound > energy + 1e-3).any()
    assert_close(negative_evidence_bound(log_density, posterior.log()), energy)


@pytest.mark.parametrize(
    ("z", "gamma"),
    [
        pytest.param(torch.randn(8, 3), torch.eye(2)[torch.zeros(8, dtype=int)], id="empty"),
        pytest.param(torch.ones(8, 3), torch.full((8, 2), 0.5), id="constant rows"),
        pytest.param(torch.randn(2, 5), torch.full((2, 2), 0.5), id="fewer rows than dimensions"),
        pytest.param(torch.randn(1, 3), torch.full((1, 2), 0.5), id="one row"),
        pytest.param(torch.zeros(4, 1), torch.full((4, 2), 0.5), id="zeros"),
        pytest.param(1e30 * torch.randn(9, 3), torch.full((9, 2), 0.5), id="huge"),
        pytest.param(1e-30 * torch.randn(9, 3), torch.full((9, 2), 0.5), id="tiny"),
    ],
)
def test_degenerate_mixtures_have_finite_values_and_gradients(z, gamma):
    z = z.double().requires_grad_()
    gamma = gamma.double().requires_grad_()
    weights, means, covariances = mixture_parameters(mixture_moments(z, gamma))
    cholesky = regularised_cholesky(covariances)
    energy = mixture_energy(z, weights, means, cholesky)
    bound = negative_evidence_bound(
        component_log_density(z, weights, means, cholesky), gamma.clamp(min=1e-9).log()
    )
    penalty = covariance_penalty(covariances)
    for value in (weights, means, covariances, cholesky, energy, bound, penalty):
        assert value.isfinite().all()
    gradients = torch.autograd.grad(energy.sum() + bound.sum() + penalty, (z, gamma))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 5, 12])
def test_singular_covariances_have_a_factor(dtype, d):
    row = torch.linspace(-1.0, 2.0, d, dtype=dtype)
    covariance = torch.outer(row, row).unsqueeze(0)
    cholesky = regularised_cholesky(covariance)
    assert cholesky.isfinite().all()
    assert (cholesky.diagonal(dim1=1, dim2=2) > 0).all()
    assert_close(cholesky @ cholesky.mT, covariance, rtol=1e-4, atol=1e-4)
