"""Guards against training that goes wrong."""

import copy
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators.training.stopping import StopPhase

__all__ = ["FiniteGuard", "warn_if_collapsed", "warn_if_unmoved"]


class FiniteGuard(Callback):
    """Roll back to the last finite weights and lower the learning rate when a loss is not finite.

    Parameters
    ----------
    factor : float, default=0.1
        What the learning rate is multiplied by at every rollback.
    attempts : int, default=3
        Rollbacks after which a phase ends.
    """

    def __init__(self, factor: float = 0.1, attempts: int = 3):
        self.factor = factor
        self.attempts = attempts
        self.rate_ = 1.0
        self.failures_ = 0

    def begin_phase(self, net, average: Sequence[torch.Tensor] = ()) -> None:
        """Take the weights at the start, and their running average, as the last finite ones."""
        self.rate_ = 1.0
        self.failures_ = 0
        self.tensors_ = [
            tensor
            for tensor in net.trained_module.state_dict(keep_vars=True).values()
            if tensor.is_floating_point()
        ]
        self.tensors_.extend(average)
        # Whole numbers are always finite, but what was counted since is taken back with the weights.
        self.counts_ = [
            tensor
            for tensor in net.trained_module.state_dict(keep_vars=True).values()
            if not tensor.is_floating_point()
        ]
        # Most optimizers have no state before their first step, but some do.
        self.optimizer_state_ = copy.deepcopy(net.optimizer_.state_dict()["state"])
        self.snapshot_ = [tensor.detach().clone() for tensor in self.tensors_]
        self.counted_ = [tensor.clone() for tensor in self.counts_]

    @torch.no_grad()
    def on_epoch_end(self, net, **kwargs):
        row = net.history[-1]
        tensors = [tensor.detach() for tensor in self.tensors_]
        # The loss is that of the weights before the last step; the step itself may have spoilt
        # them.
        if math.isfinite(row["train_loss"]) and _finite(tensors):
            torch._foreach_copy_(self.snapshot_, tensors)
            _copy(self.counted_, self.counts_)
            return
        torch._foreach_copy_(tensors, self.snapshot_)
        _copy(self.counts_, self.counted_)
        self.failures_ += 1
        self.rate_ *= self.factor
        if self.failures_ > self.attempts:
            warnings.warn(
                f"Training stopped in phase {row['phase']!r} at epoch {row['epoch']}: the loss was not "
                f"finite {self.failures_} times, also at {self.rate_:g} times the learning rate. The "
                "last finite weights are kept. Scale the features (scaler='standard'), look for "
                "extreme values in X, or lower learning_rate.",
                ConvergenceWarning,
                stacklevel=2,
            )
            raise StopPhase
        # In place, since a user's scheduler may hold the optimizer.
        fresh = {**net.optimizer_.state_dict(), "state": copy.deepcopy(self.optimizer_state_)}
        net.optimizer_.load_state_dict(fresh)
        warnings.warn(
            f"The loss was not finite in phase {row['phase']!r} at epoch {row['epoch']}: training went "
            f"back to the last finite weights and goes on at {self.rate_:g} times the learning rate. "
            "Scale the features (scaler='standard'), look for extreme values in X, or lower "
            "learning_rate.",
            ConvergenceWarning,
            stacklevel=2,
        )

    def state_dict(self) -> dict:
        return {"rate": self.rate_, "failures": self.failures_}

    def load_state_dict(self, state: dict) -> None:
        self.rate_, self.failures_ = state["rate"], state["failures"]


def _copy(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _finite(tensors: list[torch.Tensor]) -> bool:
    if not tensors:
        return True
    # A largest absolute value is finite exactly if all values are: one synchronisation in all.
    norms = torch._foreach_norm(tensors, torch.inf)
    return bool(torch.stack([norm.double() for norm in norms]).isfinite().all())


def warn_if_unmoved(module: nn.Module, initial: list[torch.Tensor]) -> None:
    """Warn if training left every parameter where it was.

    Parameters
    ----------
    module : torch.nn.Module
    initial : list of Tensor
        Copies of the parameters from before the training.
    """
    parameters = list(module.parameters())
    if parameters and all(torch.equal(a, b) for a, b in zip(parameters, initial, strict=True)):
        warnings.warn(
            "Training did not move the weights: no gradient reached them, or the learning rate is too "
            "low for their precision. Raise learning_rate, or see that the network's forward pass is "
            "differentiable.",
            ConvergenceWarning,
            stacklevel=2,
        )


def warn_if_collapsed(scores: np.ndarray, X: np.ndarray) -> None:
    """Warn if different rows have the same score.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
    X : ndarray of shape (n_samples, n_features)
    """
    spread = scores.max() - scores.min()
    if spread <= 4 * np.finfo(scores.dtype).eps * np.abs(scores).max() and (X[:1000] != X[0]).any():
        warnings.warn(
            "All training rows have the same score: the model has collapsed and ranks nothing. Scale "
            "the features (scaler='standard'), train longer (max_iter) or with another learning_rate.",
            ConvergenceWarning,
            stacklevel=2,
        )
