"""Running average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from skorch.callbacks import Callback

__all__ = ["WeightAveraging"]


class WeightAveraging(Callback):
    """Exponential moving average of the weights over the steps of the main phases.

    The average, which replaces the weights when a phase ends, lies in a flatter part of the loss
    than the last step's weights and does not jump from epoch to epoch (Polyak & Juditsky 1992;
    Izmailov et al. 2018).

    Parameters
    ----------
    decay : float
        Share of the average that a step keeps, in [0, 1). The early steps are averaged with
        ``min(decay, step / (step + 10))``, so that the start is forgotten whatever the decay.
    """

    def __init__(self, decay: float):
        self.decay = decay

    def begin_phase(self, net) -> None:
        """Start a new average."""
        self.steps_ = 0
        self.active_ = net.phase_.main
        self.tensors_ = [
            tensor
            for tensor in net.trained_module.state_dict(keep_vars=True).values()
            if tensor.is_floating_point()
        ]
        self.average_ = [tensor.detach().clone() for tensor in self.tensors_]

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the weights of a step into the average."""
        self.steps_ += 1
        decay = min(self.decay, self.steps_ / (self.steps_ + 10))
        torch._foreach_lerp_(self.average_, [t.detach() for t in self.tensors_], 1.0 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Have the average in the place of the weights for the time of a block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        tensors = [tensor.detach() for tensor in self.tensors_]
        kept = [tensor.clone() for tensor in tensors]
        torch._foreach_copy_(tensors, self.average_)
        torch._foreach_copy_(self.average_, kept)

    @torch.no_grad()
    def end_phase(self, net) -> None:
        """Put the average in the place of the weights."""
        if self.active_ and self.steps_:
            torch._foreach_copy_([tensor.detach() for tensor in self.tensors_], self.average_)

    def state_dict(self) -> dict:
        return {"steps": self.steps_, "average": self.average_}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        self.steps_ = state["steps"]
        torch._foreach_copy_(self.average_, state["average"])
