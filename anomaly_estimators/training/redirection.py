"""Torch's random functions, led to the generators of the fit that calls them."""

import functools
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from anomaly_estimators.nn.randomness import current_generators

__all__ = ["redirected"]

#: Names of the functions that draw: those of torch, its tensors, ``nn.functional`` and ``nn.init``.
_DRAWING = frozenset(
    """
    _fused_dropout _sample_dirichlet _standard_gamma alpha_dropout alpha_dropout_ bernoulli
    bernoulli_ binomial cauchy_ dropout dropout_ dropout1d dropout2d dropout3d exponential_
    feature_alpha_dropout feature_alpha_dropout_ feature_dropout feature_dropout_
    fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d
    fractional_max_pool3d_with_indices geometric_ gru gumbel_softmax kaiming_normal_
    kaiming_uniform_ log_normal_ lstm multi_head_attention_forward multinomial native_dropout normal
    normal_ poisson rand rand_like randint randint_like randn randn_like random_ randperm rnn_relu
    rnn_tanh rrelu rrelu_ rrelu_with_noise rrelu_with_noise_ scaled_dot_product_attention uniform_
    """.split()
)
_RECURRENT = frozenset({"gru", "lstm", "rnn_relu", "rnn_tanh"})
_GOING_BACKWARD = frozenset({"backward", "grad"})
_NOTICED = _DRAWING | _GOING_BACKWARD
# Calls a function without the modes that it is called from, and nothing that it calls.
_redispatched = getattr(torch.overrides, "redispatch_function", None)
_SWAPPING = threading.Lock()


def redirected() -> AbstractContextManager:
    """Let all that this thread draws by torch come from the generators of its fit.

    For the time of a block, in which networks are built or code that is not the library's own runs.
    Generators that a caller passes are used as ever. Outside a fit nothing changes. Every call of
    torch in the block costs a microsecond more, and those that draw some fifty.

    Notes
    -----
    ``torch.manual_seed`` in the block seeds the global generators, which the block does not draw from.

    Out of reach is what a scripted module draws and, where torch has no
    ``torch.overrides.redispatch_function``, what is drawn in a backward pass.

    Examples
    --------
    >>> from anomaly_estimators.training.randomness import isolated_randomness
    >>> with isolated_randomness(0, torch.device("cpu")), redirected():
    ...     first = torch.rand(2)
    >>> torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(0)))
    True
    """
    generators = current_generators()
    return nullcontext() if generators is None else _Redirection(generators)


class _Redirection(TorchFunctionMode):
    """Finds the calls that draw, cheaply: the operators that they are made of do the rest."""

    def __init__(self, generators: Mapping[str, torch.Generator]):
        super().__init__()
        self.generators = generators

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", None)
        if name not in _NOTICED:
            return func(*args, **kwargs)
        if name in _GOING_BACKWARD:
            return self._go_backward(func, types, args, kwargs)
        # Recurrent layers go step by step, and draw nothing without dropout.
        idle = name in _RECURRENT and not any(isinstance(value, float) and value for value in args)
        # Of a fit within the fit, the inner one draws; torch's own threads are in none.
        inner = current_generators() not in (None, self.generators)
        if idle or inner:
            return func(*args, **kwargs)
        _refuse_recomputation()
        with _GivenGenerators(self.generators):
            return func(*args, **kwargs)

    def _go_backward(self, func, types, args, kwargs):
        """Compute gradients with this mode still on: hooks on them may draw."""
        if _redispatched is None:
            return func(*args, **kwargs)
        with self:
            return _redispatched(func, types, args, kwargs)


class _GivenGenerators(TorchDispatchMode):
    """Gives every operator that draws, and was given no generator, that of its device."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch would load its compiler, which takes seconds, at the first number drawn.
        return False

    def __init__(self, generators: Mapping[str, torch.Generator]):
        super().__init__()
        self.generators = generators

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        generator = self.generators.get(_device(args, kwargs).type)
        given = any(isinstance(value, torch.Generator) for value in (*args, *kwargs.values()))
        # There is none for tensors without values, as on the device "meta".
        if generator is None or given:
            return func(*args, **kwargs)
        if func in _FILLED:
            return _FILLED[func](torch.empty_like(*args, **kwargs), generator=generator)
        taking = _taking_a_generator(func)
        if taking is not None:
            return taking(*args, **kwargs, generator=generator)
        if torch.Tag.nondeterministic_seeded in func.tags:
            return self._drawn(func, args, kwargs, generator)
        return func(*args, **kwargs)

    def _drawn(self, func, args: tuple, kwargs: dict, generator: torch.Generator):
        """Call an operator that draws, but takes no generator."""
        named = dict(zip(_argument_names(func), args, strict=False)) | kwargs
        if func is torch.ops.aten.native_dropout.default:
            return _native_dropout(**named, generator=generator)
        if named.get("dropout_p", 1) == 0:
            return func(*args, **kwargs)
        # Where there are no gradients, functions arrive here that are made of others.
        with self:
            made_of_others = func.decompose(*args, **kwargs)
        if made_of_others is not NotImplemented:
            return made_of_others
        return _swapped(func, args, kwargs, generator)


_FILLED = {
    torch.ops.aten.rand_like.default: Tensor.uniform_,
    torch.ops.aten.randn_like.default: Tensor.normal_,
}


def _device(args: tuple, kwargs: dict) -> torch.device:
    """Where an operator draws."""
    if kwargs.get("device") is not None:
        return kwargs["device"]
    tensors = (value for value in args if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _argument_names(operator) -> list[str]:
    return [argument.name for argument in operator._schema.arguments]


@functools.cache
def _taking_a_generator(operator):
    """The operator, or its twin, that takes a generator; None if there is none."""
    overloads = operator.overloadpacket
    twins = (getattr(overloads, name) for name in overloads.overloads())
    names = [name for name in _argument_names(operator) if name != "generator"]
    for candidate in (operator, *twins):
        taken = _argument_names(candidate)
        if "generator" in taken and [name for name in taken if name != "generator"] == names:
            return candidate
    return None


def _native_dropout(
    input: Tensor, p: float, train: bool | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The fused dropout of a CUDA device, from its parts: values and mask."""
    mask = torch.ones_like(input, dtype=torch.bool)
    if train is False or not input.numel():
        return input.clone(), mask
    mask.bernoulli_(1 - p, generator=generator)
    return input * mask * (1 / (1 - p) if p < 1 else 0.0), mask


def _swapped(func, args: tuple, kwargs: dict, generator: torch.Generator):
    """Lend torch's global generator the state of another one for the time of a call.

    It is left to operators that know no other, such as attention with dropout on a CUDA device.
    """
    device = generator.device
    everyones = (
        torch.cuda.default_generators[device.index or 0]
        if device.type == "cuda"
        else torch.default_generator
    )
    with _SWAPPING:
        before = everyones.get_state()
        everyones.set_state(generator.get_state())
        try:
            return func(*args, **kwargs)
        finally:
            generator.set_state(everyones.get_state())
            everyones.set_state(before)


def _refuse_recomputation() -> None:
    """Refuse to draw where torch would draw a second time, and not the same."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is vars(checkpoint):
            raise RuntimeError(
                "A layer that draws random numbers runs within torch.utils.checkpoint, which would "
                "draw others when it computes the layer a second time: a fit has a generator of its "
                "own, and the function restores torch's global one. Leave the layer out of it."
            )
        frame = frame.f_back
