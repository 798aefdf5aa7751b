"""Steps of flows against automatic differentiation and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from anomaly_estimators.functional.flows import (
    autoregressive_masks,
    inverse_autoregressive,
    inverse_autoregressive_inverse,
    invertible_direction,
    planar,
    planar_inverse,
    planar_steps,
)

few = settings(max_examples=60, deadline=None, derandomize=True, database=None)
EPS = torch.finfo(torch.float64).eps


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def values(bound):
    ordinary, edges = st.floats(-bound, bound), st.sampled_from([0.0, 1e-300, -1e-12, 1e-3, bound])
    return ordinary | edges


@st.composite
def vectors(draw, n_vectors, bound):
    d = draw(st.integers(1, 5))
    rows = st.lists(values(bound), min_size=d, max_size=d)
    return [torch.tensor(draw(rows), dtype=torch.float64) for _ in range(n_vectors)]


# The direction of a planar step


@few
@given(uw=vectors(2, 1e8), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_direction_can_be_inverted_and_is_no_longer_than_before(uw, dtype):
    u, w = (vector.to(dtype).requires_grad_() for vector in uw)
    bent = invertible_direction(u, w)
    # The product itself is rounded: to about 1e10 in single precision, at the largest vectors.
    rounding = 32 * torch.finfo(dtype).eps
    assert bent.isfinite().all()
    assert (bent * w).sum() >= -1.0 - rounding * w.norm() * u.norm()
    assert bent.norm() <= u.norm() * (1.0 + rounding)
    bent.sum().backward()
    assert u.grad.isfinite().all() and w.grad.isfinite().all()


@few
@given(uw=vectors(2, 20.0))
def test_direction_changes_along_w_only_by_the_shifted_softplus(uw):
    u, w = uw
    w[0] += torch.where(w.norm() < 1e-3, 1.0, 0.0)  # where w is 0 there is no direction along it
    bent = invertible_direction(u, w)
    expected = -1.0 + F.softplus((u * w).sum() + math.log(math.e - 1.0))
    torch.testing.assert_close((bent * w).sum(), expected, rtol=2e-3, atol=2e-3)
    across = torch.eye(len(u)).double() - torch.outer(w, w) / w.square().sum()
    torch.testing.assert_close(across @ bent, across @ u)


def test_direction_is_kept_where_w_is_zero_or_across():
    u = normal(4, 3)
    assert torch.equal(invertible_direction(u, torch.zeros(3).double()), u)
    across = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]], dtype=torch.float64)
    assert torch.equal(invertible_direction(across, torch.tensor([3.0, 0.0, -1.0])), across)


@pytest.mark.parametrize("x", [-1e-9, -1e-4, 1e-9, 1e-4])
def test_direction_keeps_its_digits_near_zero(x):
    # m(x) = (1 - 1/e) x + O(x^2), however short w is.
    u, w = torch.tensor([1.0, 0.0]).double(), torch.tensor([x, 0.0]).double()
    assert invertible_direction(u, w)[0].item() == pytest.approx(1.0 - 1.0 / math.e, abs=1e-4)


# Planar steps


@few
@given(zuw=vectors(3, 30.0), b=st.floats(-30, 30))
def test_planar_determinant_is_that_of_the_jacobian(zuw, b):
    z, u, w = zuw
    u, b = invertible_direction(u, w), torch.tensor(b, dtype=torch.float64)
    sign, expected = torch.linalg.slogdet(jacobian(lambda z: planar(z, u, w, b)[0], z))
    found, log_det = planar(z, u, w, b)
    torch.testing.assert_close(found, z + u * math.tanh(w @ z + b))
    assert sign == 1.0
    torch.testing.assert_close(log_det, expected, rtol=1e-6, atol=1e-6)


@few
@given(zuw=vectors(3, 100.0), b=st.floats(-100, 100))
def test_planar_inverse_undoes_the_step(zuw, b):
    z, u, w = zuw
    u, b = invertible_direction(u, w), torch.tensor(b, dtype=torch.float64)
    flowed, _ = planar(z, u, w, b)
    found = planar_inverse(flowed, u, w, b)
    # A slope of 0.001 at the least costs three digits.
    size = (1 + w.norm() * (z.norm() + u.norm()) + b.abs()) * (1 + u.norm())
    torch.testing.assert_close(found, z, rtol=0, atol=1e4 * EPS * size.item())


@pytest.mark.parametrize("slope", [-1.0, -0.999, 0.0, 1.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e2, 1e6])
def test_planar_inverse_is_a_root_for_any_slope(slope, scale):
    z = scale * torch.linspace(-3, 3, 61, dtype=torch.float64).unsqueeze(1)
    u, w, b = torch.tensor([slope]), torch.ones(1), torch.tensor(0.0)
    found, _ = planar(planar_inverse(z, u.double(), w, b), u.double(), w, b)
    # A rounding of the root is multiplied by the slope of the step.
    rounding = 4 * EPS * abs(slope) * (1.0 + 3.0 * scale)
    torch.testing.assert_close(found, z, rtol=1e-9, atol=1e-12 + rounding)


@pytest.mark.parametrize("d", range(1, 6))
def test_steps_follow_one_another(d):
    z, u, w, b = normal(6, 1, d), normal(6, 1, 4, d, seed=1), normal(4, d, seed=2), normal(6, 3, 4)
    expected, total = z, 0.0
    for k in range(4):
        expected, log_det = planar(expected, u[..., k, :], w[k], b[..., k])
        total = total + log_det
    found = planar_steps(z, u, w, b)
    assert found[0].shape == (6, 3, d)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], total)


# Inverse autoregressive steps


@few
@given(zms=vectors(3, 20.0))
def test_gated_step_lies_between_and_can_be_undone(zms):
    z, mean, logits = zms
    found, log_det = inverse_autoregressive(z, mean, logits)
    gate = 1.0 / (1.0 + torch.exp(-logits))
    torch.testing.assert_close(found, gate * z + (1.0 - gate) * mean)
    torch.testing.assert_close(log_det, gate.log().sum(), rtol=1e-6, atol=1e-9)
    assert log_det <= 0.0
    assert (torch.minimum(z, mean) - 1e-12 <= found).all()
    assert (found <= torch.maximum(z, mean) + 1e-12).all()
    undone = inverse_autoregressive_inverse(found, mean, logits)
    torch.testing.assert_close(undone, z, rtol=0, atol=100 * EPS * 20.0 / gate.min().item())


@pytest.mark.parametrize("d", range(1, 6))
@pytest.mark.parametrize("seed", range(3))
def test_gated_determinant_is_that_of_the_jacobian(d, seed):
    z, weights = normal(d, seed=seed), normal(2, d, d, seed=seed + 10).tril(-1)

    def step(z):
        return inverse_autoregressive(z, torch.sin(weights[0] @ z), weights[1] @ z + 0.5)

    expected = torch.linalg.slogdet(jacobian(lambda z: step(z)[0], z))
    assert expected.sign == 1.0
    torch.testing.assert_close(step(z)[1], expected.logabsdet)


def test_closed_gates_have_finite_determinants():
    logits = torch.tensor([-300.0, 300.0], requires_grad=True)
    z, log_det = inverse_autoregressive(torch.ones(2), torch.full((2,), 5.0), logits)
    assert z.tolist() == [5.0, 1.0]
    assert log_det.item() == -300.0
    log_det.backward()
    assert logits.grad.tolist() == [1.0, 0.0]


# Masks


@few
@given(
    n_inputs=st.integers(1, 7),
    hidden_sizes=st.lists(st.integers(1, 20), max_size=3),
    n_outputs=st.integers(1, 3),
)
def test_masks_are_strictly_autoregressive(n_inputs, hidden_sizes, n_outputs):
    masks = autoregressive_masks(n_inputs, hidden_sizes, n_outputs)
    sizes = [n_inputs, *hidden_sizes, n_outputs * n_inputs]
    assert [tuple(mask.shape) for mask in masks] == list(zip(sizes[1:], sizes[:-1], strict=True))
    assert {value for mask in masks for value in mask.unique().tolist()} <= {0.0, 1.0}
    paths = masks[0]
    for mask in masks[1:]:
        paths = mask @ paths
    strictly = torch.ones(n_inputs, n_inputs).tril(-1)
    for block in paths.split(n_inputs):
        assert (block[strictly == 0] == 0).all()
        if min(hidden_sizes, default=n_inputs) >= n_inputs:
            assert (block[strictly == 1] > 0).all()


@pytest.mark.parametrize("n_inputs", [1, 2, 5])
def test_every_output_is_reached_by_a_hidden_unit(n_inputs):
    first, *others = autoregressive_masks(n_inputs, [8, 8], 2)
    reached = torch.ones(8)
    for mask in others:
        reached = mask @ reached
    assert (reached > 0).all()
    # Those that lead to the first input see no input.
    assert (first[others[1][0] > 0] == 0).all()


# Gradients


@pytest.mark.parametrize(
    "function, shapes",
    [
        (invertible_direction, ((2, 1, 3), (2, 3))),
        (planar, ((2, 4, 3), (2, 1, 3), (3,), (2, 1))),
        (planar_steps, ((2, 3), (2, 5, 3), (5, 3), (2, 5))),
        (inverse_autoregressive, ((2, 4, 3), (2, 4, 3), (2, 4, 3))),
        (inverse_autoregressive_inverse, ((2, 3), (2, 3), (2, 3))),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_gradients_are_finite_differences(function, shapes):
    tensors = [normal(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
    assert gradcheck(function, tensors)
