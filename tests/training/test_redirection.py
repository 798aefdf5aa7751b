"""What users draw by torch comes from the generators of the fit, whichever way they draw it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from anomaly_estimators.nn.randomness import current_generators, randn_like
from anomaly_estimators.training import redirection
from anomaly_estimators.training.randomness import isolated_randomness
from anomaly_estimators.training.redirection import redirected

CPU = torch.device("cpu")
# Where users find functions.
PLACES = (torch, torch.Tensor, F)


LEAVES = []


def X(*shape):
    rows = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape).requires_grad_()
    LEAVES.append(rows)
    return rows


def probability(*shape):
    return X(*shape).detach().square() / 2


class Straight(torch.autograd.Function):
    """Draws where gradients are computed."""

    @staticmethod
    def forward(ctx, rows):
        return rows.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient + torch.randn_like(gradient)


def hooked(noise):
    rows = X(3, 4) * 1
    rows.register_hook(lambda gradient: gradient + noise(gradient))
    return rows


def within(mode, function):
    with mode():
        return function().clone()


ATTENTION = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.4, batch_first=True)
LSTM, GRU, RNN = (kind(3, 4, 2, dropout=0.5) for kind in (nn.LSTM, nn.GRU, nn.RNN))
weighted = nn.ModuleList([ATTENTION, LSTM, GRU, RNN])
PACKED = nn.utils.rnn.pack_sequence([torch.ones(5, 3), torch.ones(2, 3)])

LAYERS = {
    "Dropout": lambda: nn.Dropout(0.3)(X(3, 4)),
    "Dropout, inplace": lambda: nn.Dropout(0.3, inplace=True)(X(3, 4) * 1),
    "Dropout, all": lambda: nn.Dropout(1.0)(X(3, 4)),
    "Dropout1d": lambda: nn.Dropout1d(0.3)(X(2, 3, 4)),
    "Dropout2d": lambda: nn.Dropout2d(0.3)(X(2, 3, 4, 4)),
    "Dropout3d": lambda: nn.Dropout3d(0.3)(X(2, 3, 2, 2, 2)),
    "AlphaDropout": lambda: nn.AlphaDropout(0.3)(X(3, 4)),
    "FeatureAlphaDropout": lambda: nn.FeatureAlphaDropout(0.3)(X(2, 3, 4)),
    "RReLU": lambda: nn.RReLU()(X(3, 4)),
    "RReLU, inplace": lambda: F.rrelu_(X(3, 4) * 1, training=True),
    "FractionalMaxPool2d": lambda: nn.FractionalMaxPool2d(2, output_size=3)(X(2, 2, 7, 7)),
    "FractionalMaxPool3d": lambda: nn.FractionalMaxPool3d(2, output_size=2)(X(1, 1, 5, 5, 5)),
    "LSTM": lambda: LSTM(X(5, 2, 3))[0],
    "LSTM, packed": lambda: LSTM(PACKED)[0].data,
    "GRU": lambda: GRU(X(5, 2, 3))[0],
    "RNN": lambda: RNN(X(5, 2, 3))[0],
    "attention": lambda: F.scaled_dot_product_attention(*3 * [X(1, 2, 4)], dropout_p=0.5),
    "MultiheadAttention": lambda: ATTENTION(X(2, 3, 4)),
    "gumbel_softmax": lambda: F.gumbel_softmax(X(3, 4)),
    "gumbel_softmax, hard": lambda: F.gumbel_softmax(X(3, 4), hard=True),
    "native_dropout": lambda: torch.native_dropout(X(3, 4), 0.3, True)[0],
    "native_dropout, idle": lambda: torch.native_dropout(X(3, 4), 0.3, False)[0],
    "hook": lambda: hooked(torch.randn_like),
    "hook, dropout": lambda: hooked(lambda gradient: F.dropout(gradient, 0.5)),
    "Function": lambda: Straight.apply(X(3, 4)),
    "without gradients": lambda: within(torch.no_grad, lambda: F.dropout(X(3, 4), 0.5)),
    "in inference mode": lambda: within(torch.inference_mode, lambda: F.dropout(X(3, 4), 0.5)),
    "vmap": lambda: torch.vmap(lambda x: F.dropout(x, 0.5), randomness="different")(X(3, 4)),
}

DRAWS = {
    "rand": lambda: torch.rand(2, 3),
    "rand, out": lambda: torch.rand(3, out=torch.empty(3)),
    "randn": lambda: torch.randn(2, 3, dtype=torch.float64),
    "randint": lambda: torch.randint(100, (5,)),
    "randint, low": lambda: torch.randint(5, 100, (5,)),
    "randperm": lambda: torch.randperm(20),
    "rand_like": lambda: torch.rand_like(X(2, 3)),
    "rand_like, dtype": lambda: torch.rand_like(torch.arange(3), dtype=torch.float64),
    "randn_like": lambda: torch.randn_like(X(2, 3)),
    "randint_like": lambda: torch.randint_like(X(2, 3), 5, 90),
    "normal": lambda: torch.normal(0.0, 1.0, (3,)),
    "normal, means": lambda: torch.normal(X(3).detach(), 1.0),
    "normal, deviations": lambda: torch.normal(1.0, probability(3)),
    "normal, both": lambda: torch.normal(X(3).detach(), probability(3)),
    "bernoulli": lambda: torch.bernoulli(probability(9)),
    "bernoulli, p": lambda: torch.bernoulli(torch.empty(9), 0.4),
    "bernoulli, method": lambda: probability(9).bernoulli(),
    "multinomial": lambda: torch.multinomial(probability(9), 3),
    "poisson": lambda: torch.poisson(3 * probability(9)),
    "binomial": lambda: torch.binomial(torch.full((9,), 10.0), probability(9)),
    "gamma": lambda: torch.distributions.Gamma(torch.ones(5), torch.ones(5)).rsample(),
    "dirichlet": lambda: torch.distributions.Dirichlet(torch.ones(5)).rsample(),
    "categorical": lambda: torch.distributions.Categorical(probability(9)).sample((4,)),
    "uniform_": lambda: torch.empty(5).uniform_(),
    "normal_": lambda: torch.empty(5).normal_(),
    "bernoulli_": lambda: torch.empty(9).bernoulli_(0.4),
    "bernoulli_, each": lambda: torch.empty(9).bernoulli_(probability(9)),
    "random_": lambda: torch.empty(5).random_(),
    "random_, to": lambda: torch.empty(5).random_(2, 90),
    "exponential_": lambda: torch.empty(5).exponential_(),
    "geometric_": lambda: torch.empty(5).geometric_(0.3),
    "cauchy_": lambda: torch.empty(5).cauchy_(),
    "log_normal_": lambda: torch.empty(5).log_normal_(),
    "pca_lowrank": lambda: torch.pca_lowrank(X(6, 5).detach())[1],
    "Linear": lambda: nn.Linear(3, 2).weight,
    "Embedding": lambda: nn.Embedding(3, 2).weight,
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)).weight,
    **{
        f"init.{name}": lambda name=name: getattr(nn.init, name)(torch.empty(4, 3))
        for name in (
            "uniform_ normal_ trunc_normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_ "
            "kaiming_normal_ orthogonal_"
        ).split()
    },
    "init.sparse_": lambda: nn.init.sparse_(torch.empty(4, 3), 0.3),
}
function = {**LAYERS, **DRAWS}
named = pytest.mark.parametrize("name", function)


def drawn(name):
    """Two results of a function, and the gradients that lead to its input and its parameters."""
    LEAVES.clear()
    weighted.zero_grad()
    results = [function[name](), function[name]()]
    for result in results:
        if result.requires_grad:
            result.sum().backward()
    leaves = [*LEAVES, *weighted.parameters()]
    return [x.detach() for x in (*results, *(leaf.grad for leaf in leaves)) if x is not None]


@named
def test_drawn_as_by_the_global_generator_of_that_seed(name):
    torch.manual_seed(3)
    expected = drawn(name)
    after = torch.get_rng_state()
    torch.manual_seed(4)
    before = torch.get_rng_state()
    with isolated_randomness(3, CPU), redirected():
        found = drawn(name)
        assert torch.equal(current_generators()["cpu"].get_state(), after)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@named
def test_global_generator_is_not_borrowed(name, monkeypatch):
    monkeypatch.setattr(redirection, "_swapped", None)
    with isolated_randomness(3, CPU), redirected():
        drawn(name)


def test_every_random_operator_of_torch_is_known():
    random = set()
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        operators = [getattr(packet, o) for o in getattr(packet, "overloads", list)()]
        # Those with an underscore are torch's own, and are reached by way of the others.
        if not name.startswith("_") and any(
            torch.Tag.nondeterministic_seeded in operator.tags
            or any(argument.name == "generator" for argument in operator._schema.arguments)
            for operator in operators
        ):
            random.update({name} if any(hasattr(place, name) for place in PLACES) else ())
    assert len(random) > 25
    assert random - {"miopen_rnn"} <= redirection._DRAWING


def test_given_generators_are_used():
    def generator():
        return torch.Generator().manual_seed(9)

    with isolated_randomness(3, CPU), redirected():
        state = current_generators()["cpu"].get_state()
        found = [
            torch.rand(3, generator=generator()),
            torch.empty(3).normal_(generator=generator()),
            nn.init.kaiming_uniform_(torch.empty(3, 2), generator=generator()),
            torch.poisson(torch.ones(3), generator()),
        ]
        assert torch.equal(current_generators()["cpu"].get_state(), state)
    expected = [
        torch.rand(3, generator=generator()),
        torch.empty(3).normal_(generator=generator()),
        nn.init.kaiming_uniform_(torch.empty(3, 2), generator=generator()),
        torch.poisson(torch.ones(3), generator()),
    ]
    assert all(map(torch.equal, found, expected))


def test_tensors_without_values_are_left_to_torch():
    with isolated_randomness(3, CPU), redirected(), torch.device("meta"):
        state = current_generators()["cpu"].get_state()
        layers = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.Embedding(2, 2))
        assert layers[:2](torch.randn(4, 3)).is_meta
        assert all(parameter.is_meta for parameter in layers.parameters())
        assert torch.equal(current_generators()["cpu"].get_state(), state)


def test_inner_block_draws_from_its_own_generators():
    with isolated_randomness(1, CPU), redirected():
        first = torch.rand(2)
        with isolated_randomness(2, CPU), redirected():
            inner = torch.rand(2), F.dropout(torch.ones(9), 0.5), torch.empty(2).normal_()
        with isolated_randomness(2, CPU):
            inner_layer = randn_like(torch.empty(2))
        second = torch.rand(2)
    with isolated_randomness(1, CPU), redirected():
        assert torch.equal(torch.cat([first, second]), torch.cat([torch.rand(2), torch.rand(2)]))
    with isolated_randomness(2, CPU), redirected():
        alone = torch.rand(2), F.dropout(torch.ones(9), 0.5), torch.empty(2).normal_()
    assert all(map(torch.equal, inner, alone))
    with isolated_randomness(2, CPU):
        assert torch.equal(inner_layer, randn_like(torch.empty(2)))


def test_nothing_changes_outside_a_fit():
    torch.manual_seed(5)
    with redirected():
        first = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(3))


def test_global_generator_is_lent_where_torch_knows_no_other():
    torch.manual_seed(3)
    expected = torch.rand(3), torch.rand(3)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    own = torch.Generator().manual_seed(3)
    found = [redirection._swapped(torch.rand, (3,), {}, own) for _ in range(2)]
    assert all(map(torch.equal, found, expected))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_random_layers_that_torch_computes_a_second_time_are_refused(use_reentrant):
    layer = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    with isolated_randomness(3, CPU), redirected():
        # Without random numbers it is as ever.
        checkpoint(layer[0], X(3, 4), use_reentrant=use_reentrant).sum().backward()
        with pytest.raises(RuntimeError, match="Leave the layer out of it"):
            checkpoint(layer, X(3, 4), use_reentrant=use_reentrant)
