"""The UAI layer: eq 3, what the gradient reaches, and what audited rows leave behind."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from anomaly_estimators.functional.classification import anomaly_cross_entropy
from anomaly_estimators.nn.active import UAIHead, UAINetwork, join
from anomaly_estimators.nn.normalisation import BatchNorm


def trained_head(latent_dim, seed=0):
    """A head whose weights, centre and spread are all different."""
    torch.manual_seed(seed)
    head = UAIHead(latent_dim)
    with torch.no_grad():
        for tensor in head.state_dict().values():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        head.linear.weight.sub_(1.0)
    return head


def affine(head):
    """W and b of eq 3, as arrays in double precision."""
    arrays = {name: t.double().numpy() for name, t in head.state_dict().items()}
    W = arrays["linear.weight"][0] / arrays["scale"]
    return W, arrays["linear.bias"][0] - W @ arrays["center"]


# The head


@pytest.mark.parametrize("latent_dim", [1, 2, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_odds_are_those_of_eq_3(latent_dim, dtype):
    head = trained_head(latent_dim).to(dtype)
    latent, score = torch.randn(20, latent_dim, dtype=dtype), torch.randn(20, dtype=dtype)
    W, b = affine(head)
    expected = latent.double().numpy() @ W[:-1] + W[-1] * score.double().numpy() + b
    logits = head(latent, score)
    assert logits.shape == (20,) and logits.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(logits.detach(), expected, rtol=tolerance, atol=tolerance)


def test_it_can_make_any_function_of_eq_3():
    """The centre and the spread take nothing away."""
    head, rng = trained_head(3).double(), np.random.default_rng(0)
    W, b = rng.normal(size=4), 0.7
    scale, center = head.scale.numpy(), head.center.numpy()
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(W * scale)[None])
        head.linear.bias.copy_(torch.tensor([b + W @ center]))
    inputs = rng.normal(size=(10, 4))
    logits = head(torch.from_numpy(inputs[:, :3]), torch.from_numpy(inputs[:, 3]))
    np.testing.assert_allclose(logits.detach(), inputs @ W + b, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_before_it_has_learned_it_ranks_as_the_score_does(latent_dim, seed, spread, place):
    generator = torch.Generator().manual_seed(seed)
    latent = spread * torch.randn(30, latent_dim, generator=generator, dtype=torch.float64)
    score = place + spread * torch.rand(30, generator=generator, dtype=torch.float64)
    head = UAIHead(latent_dim)
    head.standardise([join(latent, score)])
    logits = head.double()(latent, score)
    assert torch.equal(logits.argsort(), score.argsort())


@pytest.mark.parametrize("training", [True, False])
def test_gradient_passes_through_the_latent_representation_alone(training):
    head = trained_head(3).train(training)
    latent, score = torch.randn(5, 3, requires_grad=True), torch.randn(5, requires_grad=True)
    head(latent, score).sum().backward()
    assert score.grad is None
    expected = head.linear.weight[0, :-1] / head.scale[:-1]
    np.testing.assert_allclose(latent.grad, expected.detach().expand(5, 3), rtol=1e-6)
    standardised = (join(latent, score).detach() - head.center) / head.scale
    np.testing.assert_allclose(head.linear.weight.grad[0], standardised.sum(0), rtol=1e-5)
    assert head.linear.bias.grad.item() == 5.0


def test_weights_alone_are_trained():
    assert {name for name, _ in UAIHead(3).named_parameters()} == {"linear.weight", "linear.bias"}
    assert set(UAIHead(3).state_dict()) == {"linear.weight", "linear.bias", "center", "scale"}


def test_joined_score_keeps_the_type_of_the_latent_representation():
    joined = join(torch.zeros(2, 3), torch.ones(2, dtype=torch.float64, requires_grad=True))
    assert joined.dtype == torch.float32 and not joined.requires_grad
    assert joined[:, -1].tolist() == [1.0, 1.0]


# Centre and spread


@settings(max_examples=30, deadline=None)
@given(
    n_rows=st.integers(2, 50),
    cuts=st.lists(st.integers(1, 49), max_size=4),
    place=st.floats(-100, 100),
    seed=st.integers(0, 10**6),
)
def test_centre_and_spread_are_those_of_all_pieces(n_rows, cuts, place, seed):
    rows = np.random.default_rng(seed).normal(place, [0.1, 1.0, 30.0], size=(n_rows, 3))
    bounds = sorted({0, *(cut for cut in cuts if cut < n_rows), n_rows})
    head = UAIHead(2)
    # Once only: what comes is read as it comes.
    head.standardise(torch.from_numpy(rows[a:b]) for a, b in zip(bounds, bounds[1:], strict=False))
    np.testing.assert_allclose(head.center, rows.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(head.scale, rows.std(axis=0), rtol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e6, 1e20, 1e-20])
@pytest.mark.parametrize("rounding", [0.0, 1e-8])
def test_what_is_constant_but_for_rounding_is_not_blown_up(constant, rounding):
    rows = torch.randn(100, 2, dtype=torch.float64)
    rows[:, 0] = constant * (1 + rounding * torch.randn(100, dtype=torch.float64))
    head = UAIHead(1)
    head.standardise([rows])
    assert head.scale[0] == 1.0
    assert head.scale[1] == pytest.approx(rows[:, 1].std(correction=0).item(), rel=1e-5)


def test_single_precision_pieces_are_summed_in_double():
    rows = torch.full((10_000, 2), 1000.0)
    rows[::2] += 1.0
    head = UAIHead(1)
    head.standardise([rows])
    np.testing.assert_allclose(head.center, 1000.5)
    np.testing.assert_allclose(head.scale, 0.5, rtol=1e-4)


# The network


class Encoder(nn.Sequential):
    def __init__(self, normalised=False, dropout=0.0):
        layers = [nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 2)]
        super().__init__(*([BatchNorm(4)] if normalised else []), *layers)


class Network(nn.Module):
    """An autoencoder, small and plain."""

    def __init__(self, **options):
        super().__init__()
        self.encoder = Encoder(**options)
        self.decoder = nn.Linear(2, 4)

    def forward(self, X):
        code = self.encoder(X)
        return code, self.decoder(code)


def latent_and_score(module, X):
    code, reconstruction = module(X)
    return code, (X - reconstruction).square().sum(1)


def network(n_audited=3, part=None, **options):
    torch.manual_seed(0)
    base = Network(**options)
    trained = base if part is None else getattr(base, part)
    return UAINetwork(base, trained, trained_head(2), latent_and_score, n_audited)


def batch(n_rows=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_rows, 4, generator=generator)


@pytest.mark.parametrize("n_audited", [1, 3, 9])
def test_audited_rows_are_the_last(n_audited):
    uai, X = network(n_audited), batch()
    (code, reconstruction), logits = uai(X)
    assert len(code) == len(reconstruction) == 10 - n_audited and len(logits) == n_audited
    expected, expected_reconstruction = uai.base(X[:-n_audited])
    torch.testing.assert_close(code, expected, rtol=0, atol=0)
    torch.testing.assert_close(reconstruction, expected_reconstruction, rtol=0, atol=0)
    own = uai.head(*latent_and_score(uai.base, X[-n_audited:]))
    torch.testing.assert_close(logits, own, rtol=0, atol=0)


def test_a_part_may_be_what_the_loss_of_the_detector_calls():
    uai, X = network(part="encoder"), batch()
    codes, _ = uai(X)
    torch.testing.assert_close(codes, uai.base.encoder(X[:-3]), rtol=0, atol=0)
    names = [name for name, _ in uai.named_parameters()]
    assert len({p.data_ptr() for p in uai.parameters()}) == len(names) == 8


def test_verdicts_reach_the_head_and_the_encoder_and_not_the_decoder():
    """The decoder is a part of the score only."""
    uai = network()
    _, logits = uai(batch())
    anomaly_cross_entropy(logits, torch.tensor([-1, 1, 1])).backward()
    for name, parameter in uai.named_parameters():
        if "decoder" in name:
            assert parameter.grad is None
        else:
            assert parameter.grad.abs().min() > 0, name


def test_gradient_of_the_encoder_is_that_of_a_fixed_score():
    uai, X, verdicts = network(), batch(), torch.tensor([-1, 1, -1])
    anomaly_cross_entropy(uai(X)[1], verdicts).backward()
    found = [p.grad.clone() for p in uai.base.encoder.parameters()]
    uai.zero_grad()
    with torch.no_grad():
        score = latent_and_score(uai.base, X[-3:])[1]
    W, b = (torch.as_tensor(part, dtype=torch.float32) for part in affine(uai.head))
    logits = uai.base.encoder(X[-3:]) @ W[:-1] + W[-1] * score + b
    targets = torch.tensor([1.0, 0.0, 1.0])
    p = torch.sigmoid(logits)
    (-(targets * p.log() + (1 - targets) * (1 - p).log()).mean()).backward()
    for one, other in zip(found, uai.base.encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-3, atol=1e-6)


def test_own_loss_reaches_the_whole_network_and_not_the_head():
    uai = network()
    (_, reconstruction), _ = uai(batch())
    reconstruction.square().mean().backward()
    assert all(p.grad is not None for p in uai.base.parameters())
    assert all(p.grad is None for p in uai.head.parameters())


# Batch normalisation


def statistics(uai):
    return copy.deepcopy(dict(uai.base.encoder[0].state_dict()))


def test_audited_rows_leave_no_trace_in_the_running_statistics():
    seen = []
    for audited in (batch(3, seed=5), 1e3 * batch(3, seed=6)):
        uai = network(normalised=True).train()
        uai(torch.cat([batch(7), audited]))
        seen.append(statistics(uai))
    alone = network(normalised=True).train()
    alone.base(batch(7))
    seen.append(statistics(alone))
    for name, value in seen[0].items():
        assert torch.equal(value, seen[1][name]) and torch.equal(value, seen[2][name]), name
    assert seen[0]["num_batches_tracked"] == 1
    assert not torch.equal(seen[0]["running_mean"], torch.zeros(4))


def test_audited_rows_are_normalised_as_they_are_scored():
    uai, X = network(normalised=True).train(), batch()
    for _ in range(3):
        uai(batch(seed=8))
    _, logits = uai(X)
    # By the statistics as they are after the other rows of the batch.
    scored = copy.deepcopy(uai).eval()
    expected = scored.head(*latent_and_score(scored.base, X[-3:]))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    one_by_one = [scored.head(*latent_and_score(scored.base, X[[i]])) for i in range(7, 10)]
    torch.testing.assert_close(logits, torch.cat(one_by_one), rtol=1e-5, atol=1e-6)


def test_other_rows_are_normalised_by_their_batch():
    uai, X = network(normalised=True).train(), batch()
    (code, _), _ = uai(X)
    other = network(normalised=True).train()
    torch.testing.assert_close(code, other.base(X[:-3])[0], rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_those_of_before(training):
    uai = network(normalised=True).train(training)
    uai(batch())
    assert all(part.training is training for part in uai.modules())
    before = statistics(uai)
    uai(batch(seed=3))
    after = statistics(uai)
    assert all(torch.equal(before[name], after[name]) for name in before) is not training


def test_gradient_reaches_a_normalising_layer():
    uai = network(normalised=True).train()
    _, logits = uai(batch())
    logits.sum().backward()
    assert uai.base.encoder[0].weight.grad.abs().min() > 0


def test_dropout_is_at_work_for_audited_rows_too():
    uai, X = network(dropout=0.5).train(), batch()
    torch.manual_seed(0)
    assert not torch.equal(uai(X)[1], uai(X)[1])
    uai.eval()
    assert torch.equal(uai(X)[1], uai(X)[1])


def test_layers_of_any_dimension_are_found():
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, X):
            return self.norm(X.view(-1, 1, 2, 2)).flatten(1)

    def pair(module, X):
        code = module(X)
        return code, code.sum(1)

    base = Image().train()
    uai = UAINetwork(base, base, UAIHead(4), pair, 3).train()
    uai(torch.cat([batch(7), 1e6 * batch(3)]))
    assert base.norm.running_mean.abs().max() < 1 and base.norm.num_batches_tracked == 1
