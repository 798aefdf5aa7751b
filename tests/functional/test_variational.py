"""Pieces of variational bounds against closed forms and torch.distributions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch.autograd import gradcheck
from torch.distributions import Bernoulli, Categorical, MultivariateNormal, Normal, kl_divergence

from anomaly_estimators.functional.variational import (
    LOG_VARIANCE_BOUND,
    bernoulli_log_likelihood,
    bounded_log_variance,
    capacity_bound,
    evidence_bound,
    gaussian_kl,
    gaussian_log_likelihood,
    importance_weighted_bound,
    labelled_bound,
    reparametrise,
    semi_supervised_objective,
    standard_log_density,
    transformed_kl,
    unlabelled_bound,
)

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# Likelihoods and divergence


@pytest.mark.parametrize("shapes", [((5, 3),) * 3, ((5, 1, 3), (5, 2, 3), (2, 3))], ids=str)
def test_gaussian_likelihood_is_that_of_the_distribution(shapes):
    X, mean, log_variance = (normal(*shape, seed=i) for i, shape in enumerate(shapes))
    expected = Normal(mean, (0.5 * log_variance).exp()).log_prob(X).sum(-1)
    found = gaussian_log_likelihood(X, mean, log_variance)
    assert found.shape == torch.broadcast_shapes(*shapes)[:-1]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shapes", [((5, 3), (5, 3)), ((5, 1, 3), (5, 2, 3))], ids=str)
def test_bernoulli_likelihood_is_that_of_the_distribution(shapes):
    X, logits = (normal(*shape, seed=i) for i, shape in enumerate(shapes))
    for rows in ((X > 0).double(), torch.sigmoid(X)):
        expected = Bernoulli(logits=logits, validate_args=False).log_prob(rows).sum(-1)
        torch.testing.assert_close(bernoulli_log_likelihood(rows, logits), expected)


def test_certain_bernoulli_features_have_finite_likelihoods():
    logits = torch.tensor([1e4, -1e4], dtype=torch.float64)
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert bernoulli_log_likelihood(right.double(), logits).item() == 0.0
    assert bernoulli_log_likelihood(wrong.double(), logits).item() == pytest.approx(-2e4)


@few
@given(
    mean=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    log_variance=st.lists(st.floats(-7, 7), min_size=3, max_size=3),
)
def test_divergence_is_that_of_the_distributions(mean, log_variance):
    mean, log_variance = torch.tensor([mean, log_variance], dtype=torch.float64)
    q = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(q, Normal(torch.zeros(3).double(), torch.ones(3).double())).sum(-1)
    found = gaussian_kl(mean, log_variance)
    assert found >= 0
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_divergence_vanishes_at_the_prior_only():
    zero = torch.zeros(2, 3)
    assert gaussian_kl(zero, zero).tolist() == [0.0, 0.0]
    # Small in single precision too: it grows with the square.
    assert gaussian_kl(zero, zero + 1e-3).tolist() == pytest.approx([3 * 1e-6 / 4] * 2, rel=1e-3)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 1), (6,)], ids=str)
def test_standard_density_is_that_of_the_normal_distribution(shape):
    z = 3.0 * normal(*shape)
    expected = stats.multivariate_normal(np.zeros(shape[-1])).logpdf(z.numpy())
    found = standard_log_density(z)
    assert found.shape == shape[:-1]
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-12)


# Divergence after flows


def nodes(n_dimensions):
    """Points and weights that integrate quadratic functions of N(0, I) exactly."""
    points, weights = np.polynomial.hermite_e.hermegauss(3)
    grid = np.stack(np.meshgrid(*[points] * n_dimensions), axis=-1).reshape(-1, n_dimensions)
    products = np.prod(
        np.stack(np.meshgrid(*[weights / weights.sum()] * n_dimensions), axis=-1), axis=-1
    )
    return torch.from_numpy(grid), torch.from_numpy(products.reshape(-1))


few_numbers = st.lists(st.floats(-3, 3), min_size=2, max_size=2)


@few
@given(mean=few_numbers, log_variance=few_numbers)
def test_expectation_without_a_flow_is_the_closed_form(mean, log_variance):
    mean, log_variance = torch.tensor([mean, log_variance], dtype=torch.float64)
    noise, weights = nodes(2)
    z = reparametrise(mean, log_variance, noise)
    found = weights @ transformed_kl(log_variance, z, torch.zeros(len(z)).double())
    torch.testing.assert_close(found, gaussian_kl(mean, log_variance), rtol=1e-9, atol=1e-9)


@few
@given(
    mean=few_numbers,
    log_variance=few_numbers,
    matrix=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    shift=few_numbers,
)
def test_expectation_after_an_affine_flow_is_the_closed_form(mean, log_variance, matrix, shift):
    mean, log_variance, shift = torch.tensor([mean, log_variance, shift], dtype=torch.float64)
    # Away from the singular ones, whose divergences are infinite.
    matrix = torch.tensor(matrix, dtype=torch.float64).reshape(2, 2) + 5 * torch.eye(2).double()
    noise, weights = nodes(2)
    z = reparametrise(mean, log_variance, noise) @ matrix.T + shift
    log_det = torch.linalg.slogdet(matrix).logabsdet.expand(len(z))
    found = weights @ transformed_kl(log_variance, z, log_det)
    covariance = matrix @ log_variance.exp().diag() @ matrix.T
    flowed = MultivariateNormal(matrix @ mean + shift, covariance)
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    torch.testing.assert_close(found, kl_divergence(flowed, prior), rtol=1e-8, atol=1e-8)


def test_mean_over_draws_after_a_bent_flow_is_the_closed_form():
    """z = exp(z0) is log-normal: its divergence has moments that are known."""
    mean = torch.tensor([0.3, -0.5], dtype=torch.float64)
    log_variance = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    start = reparametrise(mean, log_variance, normal(400_000, 2))
    found = transformed_kl(log_variance, start.exp(), start.sum(dim=1))
    entropy = sum(
        stats.lognorm(s=math.exp(0.5 * v), scale=math.exp(m)).entropy()
        for m, v in zip(mean.tolist(), log_variance.tolist(), strict=True)
    )
    second_moment = (2 * mean + 2 * log_variance.exp()).exp().sum().item()
    expected = -entropy + 0.5 * second_moment + math.log(2 * math.pi)
    standard_error = found.std().item() / math.sqrt(len(found))
    assert standard_error < 0.01
    assert found.mean().item() == pytest.approx(expected, abs=4 * standard_error)


# Draws and bounds on variances


def test_draws_have_the_mean_and_the_variance():
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    log_variance = torch.tensor([-3.0, 1.0], dtype=torch.float64)
    draws = reparametrise(mean, log_variance, normal(200_000, 2))
    torch.testing.assert_close(draws.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.var(0), log_variance.exp(), rtol=0.02, atol=0)


def test_log_variance_is_bent_and_bounded():
    raw = torch.linspace(-100, 100, 2001, dtype=torch.float64, requires_grad=True)
    bent = bounded_log_variance(raw)
    assert bent.abs().max() <= LOG_VARIANCE_BOUND
    torch.testing.assert_close(bent, -bent.flip(0))
    assert (bent.diff() >= 0).all()
    (slope,) = torch.autograd.grad(bent.sum(), raw)
    assert slope[1000].item() == 1.0
    assert math.exp(bent.min().item()) < 1e-3  # variances below 1 are within reach
    for scale in (1e30, torch.inf):
        assert bounded_log_variance(torch.tensor([-scale, scale])).abs().tolist() == [8.0, 8.0]


# Bounds, in models whose likelihoods are known in closed form


class LinearModel:
    """x = w_y z + b_y + noise with one latent variable z and two classes y."""

    weights = torch.tensor([[1.0, -0.5, 2.0], [0.3, 0.3, -1.0]], dtype=torch.float64)
    biases = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5]], dtype=torch.float64)
    prior = torch.tensor([0.8, 0.2], dtype=torch.float64)
    variance = 0.4

    def log_likelihood(self, X):
        """log p(x|y), of shape (n, 2)."""
        columns = []
        for w, b in zip(self.weights, self.biases, strict=True):
            covariance = torch.outer(w, w) + self.variance * torch.eye(3).double()
            columns.append(MultivariateNormal(b, covariance).log_prob(X))
        return torch.stack(columns, dim=1)

    def posterior(self, X):
        """Mean and log-variance of p(z|x, y), of shape (n, 2, 1)."""
        precision = 1.0 + self.weights.square().sum(1) / self.variance
        residual = X.unsqueeze(1) - self.biases
        mean = (residual * self.weights).sum(-1) / self.variance / precision
        return mean.unsqueeze(-1), (-precision.log()).expand_as(mean).unsqueeze(-1)

    def terms(self, X, mean, log_variance):
        """Expected log p(x|y, z) by Gauss-Hermite quadrature, and the divergence, (n, 2) both."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(9)
        expected = 0.0
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            z = reparametrise(mean, log_variance, torch.full_like(mean, node))
            noise = torch.full((3,), math.log(self.variance), dtype=torch.float64)
            outputs = z * self.weights + self.biases
            expected = expected + weight * gaussian_log_likelihood(X.unsqueeze(1), outputs, noise)
        return expected, gaussian_kl(mean, log_variance)


@pytest.fixture(scope="module")
def model():
    return LinearModel()


def test_bound_is_tight_at_the_posterior(model):
    X = normal(6, 3)
    found = evidence_bound(*model.terms(X, *model.posterior(X)))
    torch.testing.assert_close(found, model.log_likelihood(X))


@few
@given(shift=st.floats(-2, 2), widen=st.floats(-2, 2), beta=st.floats(1, 4))
def test_bound_lies_below_the_likelihood(shift, widen, beta):
    model, X = LinearModel(), normal(6, 3)
    mean, log_variance = model.posterior(X)
    terms = model.terms(X, mean + shift, log_variance + widen)
    assert (evidence_bound(*terms) <= model.log_likelihood(X) + 1e-9).all()
    assert (evidence_bound(*terms, beta) <= evidence_bound(*terms) + 1e-9).all()


def test_labelled_bound_is_tight_at_the_posterior(model):
    X = normal(6, 3)
    found = labelled_bound(*model.terms(X, *model.posterior(X)), model.prior.log())
    torch.testing.assert_close(found, model.log_likelihood(X) + model.prior.log())


def test_unlabelled_bound_is_tight_at_the_posterior_of_the_class(model):
    X = normal(6, 3)
    joint = model.log_likelihood(X) + model.prior.log()
    found = unlabelled_bound(joint, joint.log_softmax(1))
    torch.testing.assert_close(found, joint.logsumexp(1))


@few
@given(logit=st.floats(-30, 30))
def test_unlabelled_bound_lies_below_the_likelihood(logit):
    model, X = LinearModel(), normal(6, 3)
    joint = model.log_likelihood(X) + model.prior.log()
    q = torch.tensor([0.0, logit], dtype=torch.float64).log_softmax(0).expand(6, -1)
    assert (unlabelled_bound(joint, q) <= joint.logsumexp(1) + 1e-9).all()


@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_unlabelled_bound_is_the_sum_over_the_classes_and_the_entropy(n_classes):
    bounds, logits = normal(7, n_classes), normal(7, n_classes, seed=1)
    q = Categorical(logits=logits)
    expected = []
    for i in range(7):
        total = q.entropy()[i]
        for k in range(n_classes):
            total = total + q.probs[i, k] * bounds[i, k]
        expected.append(total)
    found = unlabelled_bound(bounds, logits.log_softmax(1))
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("classes", [[-1, 0, 1, 1, -1], [-1] * 5, [0] * 5, [1, 0, 1, 0, 1]])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 3.0])
def test_objective_is_that_of_the_paper(classes, alpha):
    bounds, log_q = normal(5, 2), normal(5, 2, seed=1).log_softmax(1)
    labelled = [(i, y) for i, y in enumerate(classes) if y >= 0]
    expected = -sum(bounds[i, y] for i, y in labelled)  # eq 8
    for i in (i for i, y in enumerate(classes) if y < 0):
        expected = expected - sum(log_q[i].exp() * (bounds[i] - log_q[i]))
    if labelled:  # eq 9, alpha in units of the number of rows
        expected = expected - alpha * 5 * sum(log_q[i, y] for i, y in labelled) / len(labelled)
    weight = alpha * 5 / max(1, len(labelled))
    found = semi_supervised_objective(bounds, log_q, torch.tensor(classes), weight)
    torch.testing.assert_close(5 * found, torch.as_tensor(expected))


def test_certain_class_leaves_finite_values_and_gradients():
    bounds = torch.tensor([[-1e3, -10.0], [-10.0, -1e3]], requires_grad=True)
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    log_q = torch.stack([torch.nn.functional.logsigmoid(s * logits) for s in (-1, 1)], dim=1)
    loss = semi_supervised_objective(bounds, log_q, torch.tensor([-1, 1]), 1.0)
    loss.backward()
    assert loss.isfinite() and bounds.grad.isfinite().all() and logits.grad.isfinite().all()
    # A wrong and certain class of a labelled row is still pulled at, and a row counts by its class.
    assert logits.grad[1].item() == pytest.approx(-0.5)
    assert bounds.grad[1].tolist() == [0.0, -0.5]


# Several draws, and a capacity


@pytest.mark.parametrize("shape", [(7,), (5, 1), (4, 3, 50)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_importance_weighted_bound_is_the_logarithm_of_the_mean_weight(shape, scale):
    log_weights = scale * normal(*shape)
    expected = special.logsumexp(log_weights.numpy(), axis=-1, b=1.0 / shape[-1])
    found = importance_weighted_bound(log_weights)
    assert found.shape == shape[:-1]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_importance_weighted_bound_rises_to_the_likelihood():
    """Log-normal weights of mean 1: the log-likelihood is 0, and the plain bound -0.5."""
    log_weights = normal(20_000, 128) - 0.5
    means = [
        importance_weighted_bound(log_weights[:, :n_draws]).mean().item()
        for n_draws in (1, 2, 8, 32, 128)
    ]
    assert means[0] == pytest.approx(-0.5, abs=0.03)
    assert means == sorted(means)
    assert min(np.diff(means)) > 0.005
    assert -0.02 < means[-1] < 0.0


@few
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_importance_weighted_bound_lies_between_the_mean_and_the_largest(values):
    log_weights = torch.tensor(values, dtype=torch.float64)
    found = importance_weighted_bound(log_weights).item()
    assert np.mean(values) - 1e-9 <= found <= max(values) + 1e-9
    one = importance_weighted_bound(log_weights[:1]).item()
    assert one == pytest.approx(values[0], abs=1e-12)
    shifted = importance_weighted_bound(log_weights - 7.0).item()
    assert shifted == pytest.approx(found - 7.0, abs=1e-9)


@pytest.mark.parametrize(
    ("kl", "gamma", "capacity", "expected"),
    [
        ([2.0, 4.0], 10.0, 2.5, -2.0 - 10.0 * 0.5),  # above
        ([2.0, 4.0], 10.0, 5.0, -2.0 - 10.0 * 2.0),  # below
        ([1.0, 9.0], 10.0, 5.0, -2.0),  # rows apart from it on either side, which even out
        ([2.0, 4.0], 1.0, 0.0, -2.0 - 3.0),  # no capacity: the evidence bound
        ([2.0, 4.0], 0.0, 1.0, -2.0),
    ],
)
def test_capacity_bound_by_hand(kl, gamma, capacity, expected):
    found = capacity_bound(torch.tensor([-3.0, -1.0]), torch.tensor(kl), gamma, capacity)
    assert found.shape == ()
    assert found.item() == pytest.approx(expected)


@few
@given(
    kl=st.lists(st.floats(0, 50), min_size=3, max_size=3),
    gamma=st.floats(0, 100),
    capacity=st.floats(0, 50),
)
def test_capacity_bound_pulls_the_divergence_towards_the_capacity(kl, gamma, capacity):
    kl = torch.tensor(kl, dtype=torch.float64, requires_grad=True)
    log_likelihood = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    bound = capacity_bound(log_likelihood, kl, gamma, capacity)
    for_likelihood, for_kl = torch.autograd.grad(bound, (log_likelihood, kl))
    torch.testing.assert_close(for_likelihood, torch.full((3,), 1 / 3).double())
    side = math.copysign(1.0, capacity - kl.mean().item()) if capacity != kl.mean() else 0.0
    torch.testing.assert_close(for_kl, torch.full((3,), side * gamma / 3).double())


# Gradients


@pytest.mark.parametrize(
    "function, inputs",
    [
        (gaussian_log_likelihood, ((2, 1, 3), (2, 2, 3), (2, 3))),
        (lambda X, logits: bernoulli_log_likelihood(X.sigmoid(), logits), ((2, 3), (2, 3))),
        (gaussian_kl, ((2, 3), (2, 3))),
        (reparametrise, ((2, 3), (2, 3), (2, 3))),
        (bounded_log_variance, ((2, 3),)),
        (evidence_bound, ((4,), (4,))),
        (standard_log_density, ((2, 3),)),
        (transformed_kl, ((2, 3), (2, 3), (2,))),
        (importance_weighted_bound, ((4, 5),)),
        (lambda ll, kl: capacity_bound(ll, kl, 3.0, 0.7), ((4,), (4,))),
        (labelled_bound, ((4, 2), (4, 2), (2,))),
        (lambda bounds, q: unlabelled_bound(bounds, q.log_softmax(1)), ((4, 2), (4, 2))),
        (
            lambda bounds, q: semi_supervised_objective(
                bounds, q.log_softmax(1), torch.tensor([-1, 0, 1, -1]), 0.7
            ),
            ((4, 2), (4, 2)),
        ),
    ],
    ids=[
        "gaussian",
        "bernoulli",
        "kl",
        "reparametrise",
        "log-variance",
        "evidence",
        "prior",
        "flows",
        "importance",
        "capacity",
        "labelled",
        "unlabelled",
        "objective",
    ],
)
def test_gradients_are_finite_differences(function, inputs):
    tensors = [normal(*shape, seed=i).requires_grad_() for i, shape in enumerate(inputs)]
    assert gradcheck(function, tensors)
