"""A training run as a list of phases over one module."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Phase"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training with its own loss, length and learning rate.

    Parameters
    ----------
    name : str
        Recorded with every epoch of the history.
    loss : callable
        ``loss(outputs, X, y)`` -> scalar tensor, where ``outputs`` is what the trained module
        returns for the batch ``X``, and ``y`` holds the labels of the batch.
    max_iter : int or None
        Number of epochs; ``None`` leaves it to the number of rows.
    module : torch.nn.Module, default=None
        The module that is called and whose parameters are trained; ``None`` takes the whole
        network. It shares its parameters with the network.
    learning_rate : float, default=None
        ``None`` takes the estimator's.
    faster : tuple of torch.nn.Module and float, default=None
        A part of the module that has a learning rate of its own, and that rate.
    main : bool, default=True
        False for pre-training, which a warm start leaves out, and which neither early stopping nor
        weight averaging touches.
    begin : callable, default=None
        ``begin(batches)``, called before the first epoch with the training rows and their labels,
        batch by batch in their order, as often as they are iterated over, to set what the loss needs
        beside the weights: a centre, say.
        The module is in evaluation mode, without gradients. A warm start leaves it out: there the
        method goes on with what it has.
    anneal : callable, default=None
        ``anneal(progress)``, called before every step with the share of the phase that has passed, in
        [0, 1), so that the loss can follow it. Held-out rows are evaluated by the loss that the phase
        ends with: ``anneal(1.0)``.
    observe : callable, default=None
        ``observe(outputs)``, called after every step, without gradients, with what the module had
        returned for the batch: for what follows the batches by counting instead of by gradients, such
        as the centres of clusters.
    optimizer_state : dict, default=None
        Carries the state of the optimizer, such as its moments, from one run of a phase to the next:
        taken up at the beginning if it holds anything, and filled at the end.
    """

    name: str
    loss: Callable[[Any, Tensor, Tensor], Tensor]
    max_iter: int | None
    module: nn.Module | None = None
    learning_rate: float | None = None
    faster: tuple[nn.Module, float] | None = None
    main: bool = True
    begin: Callable[[Iterable[tuple[Tensor, Tensor]]], None] | None = None
    anneal: Callable[[float], None] | None = None
    observe: Callable[[Any], None] | None = None
    optimizer_state: dict | None = None
