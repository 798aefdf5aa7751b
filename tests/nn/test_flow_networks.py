"""Flows of a posterior: determinants, inverses, densities and dependencies."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Normal
from torch.func import functional_call, vmap

from anomaly_estimators.nn.flows import (
    FLOWS,
    Flowed,
    InverseAutoregressiveFlow,
    PlanarFlow,
    build_flow,
)

CONTEXT = 4
each_flow = pytest.mark.parametrize("name", sorted(FLOWS))


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def make_flow(name, d, n_flows=3, far=0.5, seed=0):
    """Build a flow whose parameters have been moved away from the start."""
    torch.manual_seed(seed)
    flow = build_flow(name, d, CONTEXT, n_flows).double()
    with torch.no_grad():
        for i, parameter in enumerate(flow.parameters()):
            parameter.add_(far * normal(*parameter.shape, seed=seed + i))
    return flow


@each_flow
@pytest.mark.parametrize("d", range(1, 6))
@pytest.mark.parametrize("n_flows", [1, 2, 7])
def test_determinant_is_that_of_the_jacobian(name, d, n_flows):
    flow, context = make_flow(name, d, n_flows), normal(CONTEXT, seed=1)
    for z in normal(3, d, seed=2):
        full = jacobian(lambda z: flow(z, context).z, z)  # noqa: B023
        sign, expected = torch.linalg.slogdet(full)
        assert sign == 1.0
        torch.testing.assert_close(flow(z, context).log_det, expected, rtol=1e-6, atol=1e-8)
        assert (full - torch.eye(d).double()).abs().max() > 1e-3  # the flow does something


@each_flow
@pytest.mark.parametrize("d", range(1, 6))
@pytest.mark.parametrize("n_flows", [1, 2, 7])
def test_inverse_undoes_the_flow(name, d, n_flows):
    flow, context = make_flow(name, d, n_flows), normal(6, 1, CONTEXT, seed=1)
    z = 3.0 * normal(6, 10, d, seed=2)
    flowed = flow(z, context).z
    assert (flowed - z).abs().max() > 0.1
    torch.testing.assert_close(flow.inverse(flowed, context), z, rtol=1e-6, atol=1e-6)


@each_flow
def test_draws_of_a_row_share_its_context(name):
    flow, context, z = make_flow(name, 3), normal(5, CONTEXT, seed=1), normal(5, 8, 3, seed=2)
    flowed = flow(z, context.unsqueeze(1))
    assert isinstance(flowed, Flowed)
    assert flowed.z.shape == (5, 8, 3) and flowed.log_det.shape == (5, 8)
    back = flow.inverse(flowed.z, context.unsqueeze(1))
    for i in range(5):
        for k in range(8):
            single = flow(z[i, k], context[i])
            assert single.log_det.shape == ()
            torch.testing.assert_close(flowed.z[i, k], single.z)
            torch.testing.assert_close(flowed.log_det[i, k], single.log_det)
            torch.testing.assert_close(back[i, k], flow.inverse(single.z, context[i]))


@each_flow
def test_one_draw_goes_with_many_contexts(name):
    flow, context, z = make_flow(name, 3), normal(5, CONTEXT, seed=1), normal(3, seed=2)
    flowed, repeated = flow(z, context), flow(z.expand(5, 3), context)
    assert flowed.z.shape == (5, 3) and flowed.log_det.shape == (5,)
    torch.testing.assert_close(flowed, repeated)
    assert (flowed.z[0] - flowed.z[1]).abs().min() > 1e-6  # the context matters


@each_flow
def test_density_integrates_to_one(name):
    flow, context = make_flow(name, 2, n_flows=4, far=0.4), normal(CONTEXT, seed=1)
    axis = torch.linspace(-9.0, 9.0, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        z = flow.inverse(grid, context)
        log_density = Normal(0.0, 1.0).log_prob(z).sum(-1) - flow(z, context).log_det
    cell = (axis[1] - axis[0]).square()
    assert (log_density.exp().sum() * cell).item() == pytest.approx(1.0, abs=2e-3)
    # It is not that of the start.
    assert (log_density - Normal(0.0, 1.0).log_prob(grid).sum(-1)).abs().max() > 0.5


@each_flow
def test_density_is_that_of_the_draws(name):
    flow, context = make_flow(name, 1, n_flows=6), normal(CONTEXT, seed=1)
    with torch.no_grad():
        flowed, _ = flow(normal(100_000, 1, seed=3), context)
        for threshold in flowed.quantile(torch.tensor([0.1, 0.5, 0.9]).double()):
            before = flow.inverse(threshold.reshape(1), context)
            share = (flowed < threshold).double().mean()
            assert share.item() == pytest.approx(Normal(0.0, 1.0).cdf(before).item(), abs=0.01)


# The order of an autoregressive flow


def step_jacobian(step, d=5):
    """Jacobian of one of two steps, the other one of which is made the identity."""
    flow, context = make_flow("iaf", d, n_flows=2), normal(CONTEXT, seed=1)
    with torch.no_grad():
        flow.output_weight[1 - step].zero_()
        flow.output_bias[1 - step, d:] = 1e3
    return jacobian(lambda z: flow(z, context).z, normal(d, seed=2))


def test_first_step_is_triangular():
    found = step_jacobian(0)
    assert torch.equal(found, found.tril())
    assert (found.tril()[torch.ones(5, 5).tril() == 1] != 0).all()


def test_second_step_is_triangular_in_reversed_order():
    found = step_jacobian(1)
    assert torch.equal(found, found.triu())
    assert (found.triu()[torch.ones(5, 5).triu() == 1] != 0).all()


def test_two_steps_connect_every_pair_of_variables():
    flow, context = make_flow("iaf", 5, n_flows=2), normal(CONTEXT, seed=1)
    assert (jacobian(lambda z: flow(z, context).z, normal(5, seed=2)) != 0).all()


@pytest.mark.parametrize("d", [1, 2, 5])
def test_context_reaches_every_variable(d):
    flow, z = make_flow("iaf", d, n_flows=1), normal(d, seed=2)
    found = jacobian(lambda context: flow(z, context).z, normal(CONTEXT, seed=1))
    assert found.shape == (d, CONTEXT) and (found != 0).all()


def test_width_of_the_networks():
    assert InverseAutoregressiveFlow(2, CONTEXT, 1).input_weight.shape == (1, 32, 2)
    assert InverseAutoregressiveFlow(10, CONTEXT, 1).input_weight.shape == (1, 40, 10)
    flow = InverseAutoregressiveFlow(5, CONTEXT, 3, hidden_dim=7)
    assert flow.input_weight.shape == (3, 7, 5)
    assert flow(torch.zeros(2, 5), torch.zeros(2, CONTEXT)).z.shape == (2, 5)


# The start and the training


@each_flow
@pytest.mark.parametrize("d", [1, 2, 8])
@pytest.mark.parametrize("n_flows", [1, 5, 50])
def test_flow_starts_near_the_identity(name, d, n_flows):
    torch.manual_seed(0)
    flow = build_flow(name, d, 32, n_flows)
    z = torch.randn(500, d)
    with torch.no_grad():
        flowed = flow(z, torch.randn(500, 32))
    # Gates that are open further leave the identity too slowly.
    distance, change = {"planar": (0.25, 0.15), "iaf": (1.0, 1.5)}[name]
    assert (flowed.z - z).square().mean().sqrt() < distance
    assert flowed.log_det.abs().mean() < change * d


@each_flow
@pytest.mark.parametrize("n_flows", [1, 2, 20])
def test_gradients_reach_every_parameter_from_the_start(name, n_flows):
    torch.manual_seed(0)
    flow = build_flow(name, 3, CONTEXT, n_flows).double()
    context = normal(16, CONTEXT, seed=1).requires_grad_()
    flowed = flow(normal(16, 3, seed=2), context)
    (flowed.z.pow(3).sum() - flowed.log_det.sum()).backward()
    assert (context.grad != 0).all()
    kept = {}
    if name == "iaf":
        turns = math.ceil(n_flows / 2)
        kept["input_weight"] = flow.input_masks.repeat(turns, 1, 1)[:n_flows] == 1
        kept["output_weight"] = flow.output_masks.repeat(turns, 1, 1)[:n_flows] == 1
    for key, parameter in flow.named_parameters():
        used = kept.get(key, torch.ones_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter.grad != 0, used), key


@each_flow
@pytest.mark.parametrize("n_flows", [6, 30])
def test_flow_learns_a_bent_posterior(name, n_flows):
    """KL of the flow of a Gaussian, to a density along a parabola, against that of no flow."""

    def divergence(mean, log_scale, flow, n_draws):
        noise = torch.randn(n_draws, 2)
        z, log_det = flow(mean + log_scale.exp() * noise, torch.ones(1, CONTEXT))
        log_q = Normal(0.0, 1.0).log_prob(noise).sum(-1) - log_scale.sum() - log_det
        log_p = Normal(0.0, 1.0).log_prob(z[:, 0])
        return (log_q - log_p - Normal(z[:, 0] ** 2 - 1.0, 0.4).log_prob(z[:, 1])).mean()

    def no_flow(z, context):
        return Flowed(z, torch.zeros(()))

    found = []
    for flow in (no_flow, None):
        torch.manual_seed(0)
        flow = flow or build_flow(name, 2, CONTEXT, n_flows)
        own = [] if flow is no_flow else list(flow.parameters())
        base = [torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)]
        optimizer = torch.optim.Adam([*base, *own], lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            divergence(*base, flow, 128).backward()
            optimizer.step()
        with torch.no_grad():
            found.append(divergence(*base, flow, 10_000).item())
    gaussian, flowed = found
    assert -0.02 < flowed < 0.6 * gaussian


# What a network must stand


@each_flow
@pytest.mark.parametrize("n_flows", [1, 50])
def test_far_values_leave_finite_results(name, n_flows):
    flow = make_flow(name, 3, n_flows).float()
    z = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, 0.0, 1.0]], requires_grad=True)
    for scale in (0.0, 1.0, 1e3):
        flow.zero_grad()
        flowed = flow(z, scale * torch.ones(3, CONTEXT))
        assert flowed.z.isfinite().all() and flowed.log_det.isfinite().all()
        (flowed.z.sum() + flowed.log_det.sum()).backward()
        for parameter in (z, *flow.parameters()):
            assert parameter.grad.isfinite().all()


@each_flow
def test_network_without_values_comes_to_life_with_its_state(name):
    flow = make_flow(name, 3).float()
    with torch.device("meta"):
        shadow = build_flow(name, 3, CONTEXT, 3)
        flowed = shadow(torch.zeros(2, 5, 3), torch.zeros(2, 1, CONTEXT))
    assert flowed.z.shape == (2, 5, 3) and flowed.log_det.shape == (2, 5)
    assert all(tensor.is_meta for tensor in shadow.state_dict().values())
    shadow.load_state_dict(flow.state_dict(), assign=True)
    z, context = torch.randn(2, 3), torch.randn(2, CONTEXT)
    for found, expected in zip(shadow(z, context), flow(z, context), strict=True):
        assert torch.equal(found, expected)


@each_flow
def test_precision_is_that_of_the_parameters(name):
    flow, z, context = make_flow(name, 3), normal(5, 3), normal(5, CONTEXT, seed=1)
    double = flow(z, context)
    single = flow.float()(z.float(), context.float())
    assert double.z.dtype == double.log_det.dtype == torch.float64
    assert single.z.dtype == single.log_det.dtype == torch.float32
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-3)


@each_flow
def test_flow_changes_no_state_and_runs_under_vmap(name):
    flow, z, context = make_flow(name, 3), normal(6, 3), normal(6, CONTEXT, seed=1)
    state = {key: value.clone() for key, value in flow.state_dict().items()}
    expected = flow(z, context)
    found = vmap(lambda z, context: functional_call(flow, state, (z, context)))(z, context)
    flow.inverse(z, context)
    torch.testing.assert_close(found, expected)
    assert all(torch.equal(value, state[key]) for key, value in flow.state_dict().items())


def test_flows_by_name():
    assert isinstance(build_flow("planar", 2, 3, 4), PlanarFlow)
    assert isinstance(build_flow("iaf", 2, 3, 4), InverseAutoregressiveFlow)
    assert build_flow(None, 2, 3, 4) is None
    with pytest.raises(ValueError, match=r"'radial': choose one of \['iaf', 'planar'\] or None"):
        build_flow("radial", 2, 3, 4)
    with pytest.raises(ValueError, match="at least one step, not 0; give None"):
        build_flow("iaf", 2, 3, 0)
