"""A network in double precision beside the one that was trained."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["DoubleTwin"]

# Values of each tensor that are looked at, spread over the whole.
_PROBED = 256


class _State(NamedTuple):
    """What a module was when its twin was made."""

    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]  # how often each was changed in its place, as far as torch counts it
    probe: Tensor


class DoubleTwin:
    """Copy of a module in float64, made when it is first asked for and whenever the module has changed.

    A change of any kind is seen, but for one of single values through ``weight.data``, which torch
    does not count.

    Examples
    --------
    >>> twin, module = DoubleTwin(), nn.Linear(2, 1)
    >>> twin.of(module).weight.dtype, twin.of(module) is twin.of(module)
    (torch.float64, True)
    """

    def __init__(self):
        # In one tuple, which threads replace as a whole.
        self._kept: tuple[nn.Module | None, _State | None, nn.Module | None] = (None, None, None)

    def of(self, module: nn.Module) -> nn.Module:
        """Return the twin of a module, in the same mode.

        Parameters
        ----------
        module : torch.nn.Module

        Returns
        -------
        torch.nn.Module
            Not to be changed.
        """
        source, before, twin = self._kept
        state = _state_of(module)
        if before is None or source is not module or not _same(state, before):
            with torch.inference_mode(False), torch.no_grad():
                twin = copy.deepcopy(module).double()
            self._kept = (module, state, twin)
        if twin.training != module.training:
            twin.train(module.training)
        return twin


def _state_of(module: nn.Module) -> _State:
    tensors = tuple(_tensors(module))
    versions = tuple(-1 if tensor.is_inference() else tensor._version for tensor in tensors)
    # Fused optimizers change weights without counting, and so does what writes through data.
    with torch.no_grad():
        parts = [tensor.reshape(-1)[:: 1 + tensor.numel() // _PROBED] for tensor in tensors]
        probe = torch.cat(parts) if parts else torch.empty(0)
    return _State(tensors, versions, probe)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    # By hand: torch's own walk takes longer than the pass of a row through a small network.
    waiting = [module]
    while waiting:
        part = waiting.pop()
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None:
                yield tensor
        waiting.extend(child for child in part._modules.values() if child is not None)


def _same(a: _State, b: _State) -> bool:
    return (
        len(a.tensors) == len(b.tensors)
        and a.versions == b.versions
        and all(p is q for p, q in zip(a.tensors, b.tensors, strict=True))
        and torch.equal(a.probe, b.probe)
    )
