"""Ending a phase before its last epoch."""

import copy
import math

from skorch.callbacks import Callback

__all__ = ["EarlyStopping", "StopPhase"]


class StopPhase(Exception):
    """Raised by a callback to end the current phase in order."""


class EarlyStopping(Callback):
    """End the main phase when the held-out loss no longer falls, and keep the best weights.

    Parameters
    ----------
    patience : int
        Epochs without an improvement after which the phase ends.
    tol : float
        What counts as an improvement, relative to the size of the best loss.
    """

    def __init__(self, patience: int, tol: float):
        self.patience = patience
        self.tol = tol
        self.begin_phase()

    def begin_phase(self) -> None:
        """Forget the epochs of the phase before."""
        self.best_ = math.inf
        self.waited_ = 0
        self.weights_ = None

    def on_epoch_end(self, net, **kwargs):
        if not net.phase_.main:
            return
        loss = net.history[-1]["valid_loss"]
        # A first finite loss always counts: the margin of an infinite best would be NaN.
        margin = self.tol * abs(self.best_) if math.isfinite(self.best_) else 0.0
        if loss < self.best_ - margin:
            self.best_, self.waited_ = loss, 0
            with net.evaluation():
                self.weights_ = copy.deepcopy(net.module_.state_dict())
        else:
            self.waited_ += 1
        if self.waited_ >= self.patience:
            raise StopPhase

    def end_phase(self, net) -> None:
        """Put the best weights back."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)

    def state_dict(self) -> dict:
        return {"best": self.best_, "waited": self.waited_, "weights": self.weights_}

    def load_state_dict(self, state: dict) -> None:
        self.best_, self.waited_, self.weights_ = state["best"], state["waited"], state["weights"]
