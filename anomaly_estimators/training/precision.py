"""A network in double precision beside the one that was trained."""

import copy

import torch
from torch import nn

__all__ = ["DoubleTwin"]


class DoubleTwin:
    """Copy of a module in float64, made when it is first asked for and whenever the module has changed.

    A change is seen by what torch counts: every step of an optimizer, ``load_state_dict`` and other
    in-place operations on the weights count, writing through ``weight.data`` does not.

    Examples
    --------
    >>> twin, module = DoubleTwin(), nn.Linear(2, 1)
    >>> twin.of(module).weight.dtype, twin.of(module) is twin.of(module)
    (torch.float64, True)
    """

    def __init__(self):
        # In one tuple, which threads replace as a whole.
        self._kept: tuple[nn.Module | None, list, nn.Module | None] = (None, [], None)

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
        state = _state(module)
        if source is not module or not _same(state, before):
            with torch.inference_mode(False), torch.no_grad():
                twin = copy.deepcopy(module).double()
            self._kept = (module, state, twin)
        if twin.training != module.training:
            twin.train(module.training)
        return twin


def _state(module: nn.Module) -> list[tuple[torch.Tensor, int]]:
    """The tensors of a module, and how often each was changed in its place."""
    tensors = [*module.parameters(), *module.buffers()]
    return [(tensor, -1 if tensor.is_inference() else tensor._version) for tensor in tensors]


def _same(a: list[tuple[torch.Tensor, int]], b: list[tuple[torch.Tensor, int]]) -> bool:
    return len(a) == len(b) and all(
        p is q and before == after for (p, before), (q, after) in zip(a, b, strict=True)
    )
