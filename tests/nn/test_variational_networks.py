"""Networks of latent variable models against their formulas."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from anomaly_estimators.functional.variational import evidence_bound, semi_supervised_objective
from anomaly_estimators.nn.mlp import MLP
from anomaly_estimators.nn.variational import (
    BernoulliLikelihood,
    GaussianHead,
    GaussianLikelihood,
    GaussianParameters,
    M2Network,
    VariationalAutoencoder,
    VariationalDecoder,
    VariationalEncoder,
    draw,
    with_classes,
)

D, WIDTH, LATENT = 5, 4, 2


def make_parts(n_classes=0, likelihood=GaussianLikelihood, batch_norm=False):
    sizes = (WIDTH, LATENT, "tanh")
    options = {"batch_norm": batch_norm, "n_classes": n_classes}
    return (
        VariationalEncoder(MLP([D, 6, WIDTH]), *sizes, **options),
        VariationalDecoder(MLP([WIDTH, 6, D]), *sizes, likelihood(D, n_classes), **options),
    )


def make_vae(**options):
    torch.manual_seed(0)
    return VariationalAutoencoder(*make_parts(**options)).double()


def make_m2(prior=0.2, **options):
    torch.manual_seed(0)
    return M2Network(MLP([D, 4, 1]), *make_parts(2, **options), prior).double()


@pytest.fixture
def X():
    return torch.randn(7, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_head_is_two_linear_maps_of_which_one_is_bounded():
    head = GaussianHead(3, 2).double()
    hidden = torch.randn(6, 4, 3, dtype=torch.float64)
    mean, log_variance = head(hidden)
    outputs = hidden @ head.layer.weight.T + head.layer.bias
    torch.testing.assert_close(mean, outputs[..., :2])
    torch.testing.assert_close(log_variance, 8 * (outputs[..., 2:] / 8).tanh())


@pytest.mark.parametrize("variance", [0.01, 0.5, 1.0, 20.0])
def test_variance_of_a_posterior_can_be_learned_on_either_side_of_one(variance):
    head = GaussianHead(1, 1).double()
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    target = Normal(torch.tensor(1.0).double(), math.sqrt(variance))
    inputs = torch.ones(1, 1).double()

    def loss():
        optimizer.zero_grad()
        mean, log_variance = head(inputs)
        divergence = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), target).sum()
        divergence.backward()
        return divergence

    optimizer.step(loss)
    assert head(inputs).log_variance.exp().item() == pytest.approx(variance, rel=1e-3)


def test_draws_follow_the_global_generator_and_their_parameters():
    parameters = GaussianParameters(torch.full((50_000, 2), 3.0), torch.full((50_000, 2), -4.0))
    torch.manual_seed(0)
    first = draw(parameters)
    torch.manual_seed(0)
    assert torch.equal(draw(parameters), first)
    assert not torch.equal(draw(parameters), first)
    assert first.mean().item() == pytest.approx(3.0, abs=0.01)
    assert first.var().item() == pytest.approx(math.exp(-4.0), rel=0.02)


def test_classes_are_appended_to_common_and_to_own_values():
    values = torch.arange(6.0).reshape(2, 3)
    common = with_classes(values, 2)
    assert common.shape == (2, 2, 5)
    for k in range(2):
        assert torch.equal(common[:, k, :3], values)
        assert common[:, k, 3:].tolist() == [[float(k == 0), float(k == 1)]] * 2
    own = torch.stack([values, -values], dim=1)
    assert torch.equal(with_classes(own, 2)[..., :3], own)


@pytest.mark.parametrize("n_classes", [0, 2])
def test_learned_variance_is_that_of_the_residuals(n_classes):
    torch.manual_seed(0)
    spread = torch.tensor([[0.1, 1.0, 7.0], [3.0, 0.3, 0.05]])[: max(1, n_classes)]
    X = spread * torch.randn(4000, len(spread), 3)
    X = X if n_classes else X[:, 0]
    likelihood = GaussianLikelihood(3, n_classes)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.01)
    for _ in range(800):
        optimizer.zero_grad()
        (-likelihood(X, torch.zeros_like(X)).mean()).backward()
        optimizer.step()
    found = (8 * (likelihood.scale.detach()).tanh()).exp()
    torch.testing.assert_close(found, X.square().mean(0), rtol=0.02, atol=0)


def test_constant_feature_has_a_finite_likelihood():
    likelihood = GaussianLikelihood(2)
    with torch.no_grad():
        likelihood.scale.fill_(-1e6)
    assert likelihood(torch.zeros(3, 2), torch.zeros(3, 2)).tolist() == pytest.approx(
        [8.0 - math.log(2 * math.pi)] * 3
    )


@pytest.mark.parametrize("shape", [(6,), (6, 3), (2, 3, 4)], ids=str)
def test_decoder_takes_any_leading_dimensions(shape):
    _, decoder = make_parts()
    z = torch.randn(*shape, LATENT)
    outputs = decoder(z)
    assert outputs.shape == (*shape, D)
    torch.testing.assert_close(outputs.reshape(-1, D), decoder(z.reshape(-1, LATENT)))


@pytest.mark.parametrize("likelihood", [GaussianLikelihood, BernoulliLikelihood])
def test_vae_returns_the_terms_of_its_bound(likelihood, X):
    network, X = make_vae(likelihood=likelihood), X.sigmoid()
    torch.manual_seed(5)
    log_likelihood, kl = network(X)
    torch.manual_seed(5)
    hidden = network.encoder.encoder(X).tanh()
    mean, raw = network.encoder.posterior.layer(hidden).chunk(2, dim=1)
    q = Normal(mean, (4 * (raw / 8).tanh()).exp())
    z = mean + q.stddev * torch.randn(7, LATENT, dtype=torch.float64)
    outputs = network.decoder.decoder(network.decoder.before[0](z).tanh())
    if likelihood is GaussianLikelihood:
        expected = Normal(outputs, 1.0).log_prob(X).sum(1)  # as it starts
    else:
        expected = -nn.functional.binary_cross_entropy_with_logits(
            outputs, X, reduction="none"
        ).sum(1)
    torch.testing.assert_close(log_likelihood, expected)
    torch.testing.assert_close(kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1))


@pytest.mark.parametrize("likelihood", [GaussianLikelihood, BernoulliLikelihood])
def test_m2_bounds_are_those_of_every_class_by_itself(likelihood, X):
    network, X = make_m2(prior=0.2, likelihood=likelihood), X.sigmoid()
    torch.manual_seed(5)
    found = network(X)
    torch.manual_seed(5)
    noise = torch.randn(7, 1, LATENT, dtype=torch.float64)[:, 0]
    for k, prior in enumerate((0.8, 0.2)):
        y = torch.zeros(7, 2, dtype=torch.float64)
        y[:, k] = 1.0
        hidden = network.encoder.encoder(X).tanh()
        mean, log_variance = network.encoder.posterior(torch.cat([hidden, y], dim=1))
        q = Normal(mean, (0.5 * log_variance).exp())
        outputs = network.decoder(torch.cat([mean + q.stddev * noise, y], dim=1))
        if likelihood is GaussianLikelihood:
            log_likelihood = Normal(outputs, 1.0).log_prob(X).sum(1)
        else:
            log_likelihood = (X * outputs - nn.functional.softplus(outputs)).sum(1)
        kl = kl_divergence(q, Normal(0.0, 1.0)).sum(1)
        torch.testing.assert_close(found.bounds[:, k], log_likelihood + math.log(prior) - kl)
        torch.testing.assert_close(
            found.log_probability[:, k].exp(), (network.log_odds(X) * (2 * k - 1)).sigmoid()
        )


def test_classes_that_make_no_difference_differ_by_their_prior(X):
    network = make_m2(prior=0.2)
    with torch.no_grad():
        network.encoder.posterior.layer.weight[:, WIDTH:] = 0.0
        network.decoder.before[0].weight[:, LATENT:] = 0.0
    bounds = network(X).bounds
    expected = torch.full((7,), math.log(0.2 / 0.8), dtype=torch.float64)
    # To the last bits: both classes see the same noise.
    torch.testing.assert_close(bounds[:, 1] - bounds[:, 0], expected, rtol=1e-6, atol=1e-6)


def test_code_is_the_mean_over_the_classes(X):
    network = make_m2().eval()
    expected = torch.zeros(7, LATENT, dtype=torch.float64)
    for i in range(7):
        for k in range(2):
            y = torch.zeros(2, dtype=torch.float64)
            y[k] = 1.0
            hidden = network.encoder.hidden(X[i : i + 1])[0]
            mean, _ = network.encoder.posterior(torch.cat([hidden, y]))
            expected[i] += network.log_probability(X)[i, k].exp() * mean
    torch.testing.assert_close(network.code(X), expected)


def test_scores_and_codes_draw_nothing(X):
    network = make_m2()
    state = torch.random.get_rng_state()
    network.log_odds(X)
    network.code(X)
    assert torch.equal(torch.random.get_rng_state(), state)


# Gradients


def without_gradient(network, loss):
    names = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    return {
        name
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is None or not gradient.any()
    }


@pytest.mark.parametrize("likelihood", [GaussianLikelihood, BernoulliLikelihood])
def test_gradients_reach_the_whole_vae(likelihood, X):
    network = make_vae(likelihood=likelihood)
    assert not without_gradient(network, -evidence_bound(*network(X.sigmoid())).mean())


@pytest.mark.parametrize("likelihood", [GaussianLikelihood, BernoulliLikelihood])
@pytest.mark.parametrize("classes", [[-1] * 7, [-1, 0, 1, -1, -1, 1, -1], [0, 1] * 3 + [0]])
def test_gradients_reach_the_whole_m2(likelihood, classes, X):
    network = make_m2(likelihood=likelihood)
    outputs = network(X.sigmoid())
    loss = semi_supervised_objective(*outputs, torch.tensor(classes), 0.1)
    assert not without_gradient(network, loss)


def test_only_the_classification_loss_teaches_the_classifier_of_labelled_rows(X):
    network = make_m2()
    classes = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    generative = semi_supervised_objective(*network(X), classes, 0.0)
    classifier = {name for name, _ in network.named_parameters() if "classifier" in name}
    assert without_gradient(network, generative) == classifier


def test_gradient_of_the_objective_is_a_finite_difference(X):
    network = make_m2()
    classes = torch.tensor([-1, 0, 1, -1, -1, 1, -1])

    def loss():
        torch.manual_seed(3)
        return semi_supervised_objective(*network(X), classes, 0.5)

    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = [
            torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters
        ]
        slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True)).item()
        values = []
        for step in (1e-5, -2e-5, 1e-5):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(step * d)
            values.append(loss().item())
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("make", [make_vae, make_m2])
def test_batch_of_one_row_is_trained_on(make, X):
    network = make(batch_norm=True).train()
    outputs = network(X[:1])
    assert all(output.isfinite().all() for output in outputs)
