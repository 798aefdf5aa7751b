"""Networks of latent variable models against their formulas."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from anomaly_estimators.functional.variational import evidence_bound, semi_supervised_objective
from anomaly_estimators.nn.flows import InverseAutoregressiveFlow, PlanarFlow
from anomaly_estimators.nn.mlp import MLP
from anomaly_estimators.nn.variational import (
    BernoulliLikelihood,
    GaussianHead,
    GaussianLikelihood,
    GaussianParameters,
    M2Network,
    UnitGaussianLikelihood,
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


FLOWS = {"none": None, "planar": PlanarFlow, "iaf": InverseAutoregressiveFlow}
flows = pytest.mark.parametrize("flow", FLOWS)


def make_vae(flow="none", **options):
    torch.manual_seed(0)
    parts = make_parts(**options)
    cls = FLOWS[flow]
    network = VariationalAutoencoder(*parts, cls(LATENT, WIDTH, n_flows=3) if cls else None)
    if cls:
        with torch.no_grad():  # far from the identity
            for parameter in network.flow.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
    return network.double()


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


# Draws of the posterior, and what flows make of them


def seen_by(network, X):
    """Gaussian q0(z0|x) and last hidden layer, each row by itself."""
    hidden = network.encoder.encoder(X).tanh()
    mean, raw = network.encoder.posterior.layer(hidden).chunk(2, dim=1)
    return Normal(mean, (4 * (raw / 8).tanh()).exp()), hidden


def log_density_after(flow, start, z0, context):
    """log q(z) of one draw by the change of variables, with autograd's Jacobian."""
    jacobian = torch.autograd.functional.jacobian(lambda z: flow(z, context)[0], z0)
    return start - torch.linalg.slogdet(jacobian).logabsdet


@flows
@pytest.mark.parametrize("own", [False, True])
def test_latents_are_draws_with_the_densities_of_the_prior_and_of_the_posterior(flow, own, X):
    network, n_draws = make_vae(flow), 4
    noise = torch.randn(*([7] if own else []), n_draws, LATENT, dtype=torch.float64)
    z, log_ratio = network.latents(X, noise)
    assert z.shape == (7, n_draws, LATENT) and log_ratio.shape == (7, n_draws)
    q0, hidden = seen_by(network, X)
    for i in range(7):
        for k in range(n_draws):
            z0 = q0.mean[i] + q0.stddev[i] * (noise[i, k] if own else noise[k])
            log_q = Normal(q0.mean[i], q0.stddev[i]).log_prob(z0).sum()
            expected = z0
            if network.flow is not None:
                log_q = log_density_after(network.flow, log_q, z0, hidden[i])
                expected = network.flow(z0, hidden[i])[0]
            torch.testing.assert_close(z[i, k], expected)
            log_p = Normal(0.0, 1.0).log_prob(expected).sum()
            torch.testing.assert_close(log_ratio[i, k], log_p - log_q)


@pytest.mark.parametrize("flow", ["planar", "iaf"])
def test_vae_with_flows_returns_the_terms_of_its_bound(flow, X):
    network = make_vae(flow)
    torch.manual_seed(5)
    log_likelihood, kl = network(X)
    torch.manual_seed(5)
    noise = torch.randn(7, LATENT, dtype=torch.float64)
    q0, hidden = seen_by(network, X)
    for i in range(7):
        z0 = q0.mean[i] + q0.stddev[i] * noise[i]
        z = network.flow(z0, hidden[i])[0]
        # The entropy of the Gaussian stands for the density of the draw.
        log_q = log_density_after(network.flow, -q0.entropy()[i].sum(), z0, hidden[i])
        torch.testing.assert_close(kl[i], log_q - Normal(0.0, 1.0).log_prob(z).sum())
        outputs = network.decoder(z.unsqueeze(0))[0]
        torch.testing.assert_close(log_likelihood[i], Normal(outputs, 1.0).log_prob(X[i]).sum())


@pytest.mark.parametrize("flow", ["planar", "iaf"])
def test_divergence_of_the_training_has_the_expectation_of_that_of_the_draws(flow, X):
    network, n_draws = make_vae(flow), 20_000
    with torch.no_grad():
        noise = torch.randn(n_draws, LATENT, dtype=torch.float64)
        log_ratio = network.latents(X[:1], noise).log_ratio[0]
        kl = network(X[:1].expand(n_draws, -1)).kl
    error = math.hypot(log_ratio.std().item(), kl.std().item()) / math.sqrt(n_draws)
    assert kl.mean().item() == pytest.approx(-log_ratio.mean().item(), abs=4 * error)
    assert kl.mean().item() > 4 * error  # as a divergence is


@flows
def test_code_of_a_vae_is_where_the_mean_goes(flow, X):
    network = make_vae(flow)
    q0, hidden = seen_by(network, X)
    expected = q0.mean if network.flow is None else network.flow(q0.mean, hidden)[0]
    state = torch.random.get_rng_state()
    torch.testing.assert_close(network.code(X), expected)
    assert torch.equal(torch.random.get_rng_state(), state)
    still, _ = network.latents(X, torch.zeros(1, LATENT, dtype=torch.float64))
    torch.testing.assert_close(still[:, 0], expected)


# Rows, drawn from a likelihood


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("likelihood", [GaussianLikelihood, UnitGaussianLikelihood])
def test_gaussian_draws_have_the_mean_and_the_variance(likelihood):
    network = likelihood(3)
    variance = torch.ones(3)
    if likelihood is GaussianLikelihood:
        with torch.no_grad():
            network.scale.copy_(torch.tensor([-0.3, 0.0, 0.2]))
        variance = (8 * network.scale.tanh()).exp().detach()
    outputs = torch.tensor([1.0, -2.0, 3.0]).expand(50_000, -1)
    assert torch.equal(network.mean(outputs), outputs)
    drawn = network.draw(outputs, generator()).detach()
    torch.testing.assert_close(drawn.mean(0), outputs[0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.05, atol=0)


def test_unit_gaussian_likelihood_is_that_of_the_distribution(X):
    outputs = torch.randn(7, 4, D, dtype=torch.float64)
    likelihood = UnitGaussianLikelihood(D)
    assert not list(likelihood.parameters())
    expected = Normal(outputs, 1.0).log_prob(X.unsqueeze(1)).sum(-1)
    torch.testing.assert_close(likelihood(X.unsqueeze(1), outputs), expected)


def test_bernoulli_draws_are_zeros_and_ones_of_their_probability():
    likelihood = BernoulliLikelihood(3)
    logits = torch.tensor([-3.0, 0.0, 1.0]).expand(50_000, -1)
    torch.testing.assert_close(likelihood.mean(logits), logits.sigmoid())
    drawn = likelihood.draw(logits, generator())
    assert drawn.dtype == logits.dtype and set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), logits[0].sigmoid(), atol=0.01, rtol=0)
    certain = likelihood.draw(torch.tensor([[-1e4, 1e4]] * 9), generator())
    assert certain.tolist() == [[0.0, 1.0]] * 9


@pytest.mark.parametrize(
    "likelihood", [GaussianLikelihood, UnitGaussianLikelihood, BernoulliLikelihood]
)
def test_drawn_rows_follow_their_generator_in_either_precision(likelihood):
    network, outputs = likelihood(D), torch.randn(9, D, dtype=torch.float64)
    state = torch.random.get_rng_state()
    drawn = network.double().draw(outputs, generator())
    assert torch.equal(network.draw(outputs, generator()), drawn)
    assert not torch.equal(network.draw(outputs, generator(1)), drawn)
    single = network.float().draw(outputs.float(), generator())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), drawn, atol=1e-5, rtol=0)
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


@flows
@pytest.mark.parametrize("likelihood", [GaussianLikelihood, BernoulliLikelihood])
def test_gradients_reach_the_whole_vae(likelihood, flow, X):
    network = make_vae(flow, likelihood=likelihood)
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
