"""A user's callbacks in a fit: how they are copied, and which of them have nothing to do there."""

import copy
from collections.abc import Iterator, Sequence
from types import MethodType

from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    PassthroughScoring,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    WandbLogger,
)
from torch.optim.lr_scheduler import ReduceLROnPlateau

__all__ = ["LOGGERS", "check_callbacks", "check_kinds", "copy_callbacks", "reads_batches"]

#: Loggers keep one record of a fit, whatever its phases, and can only draw numbers.
LOGGERS = (MlflowLogger, NeptuneLogger, SacredLogger, TensorBoard, WandbLogger)

# What leads a logger to its record.
_HANDLES = {"client", "experiment", "run", "wandb_run", "writer"}


def copy_callbacks(callbacks: Sequence) -> list:
    """Copy callbacks, so that a fit leaves those of the user as they are.

    What leads out of the fit stays the user's own: the run or the writer of a logger, a file, a method
    of another object, and what cannot be copied at all.

    Parameters
    ----------
    callbacks : sequence of callbacks, or of pairs of a name and a callback

    Returns
    -------
    list

    Examples
    --------
    >>> import io
    >>> file = io.StringIO()
    >>> first = Checkpoint(f_params=file)
    >>> (second,) = copy_callbacks([first])
    >>> second is first, second.f_params is file
    (False, True)
    """
    parts = [part for callback in map(_unnamed, callbacks) for part in _parts(callback)]
    memo = {id(value): value for value, outside in parts if outside}
    try:
        return copy.deepcopy(list(callbacks), dict(memo))
    except Exception:
        memo.update((id(value), value) for value, _ in parts if not _can_be_copied(value, memo))
        return copy.deepcopy(list(callbacks), memo)


def _can_be_copied(value, memo: dict) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:
        return False
    return True


def _parts(callback) -> Iterator[tuple[object, bool]]:
    """What a callback holds, and whether it leads out of the fit."""
    if isinstance(callback, type):
        return
    for name, value in getattr(callback, "__dict__", {}).items():
        if isinstance(value, Callback):
            yield from _parts(value)
        else:
            yield (
                value,
                (isinstance(callback, LOGGERS) and name in _HANDLES)
                or hasattr(value, "write")
                or (isinstance(value, MethodType) and not isinstance(value.__self__, Callback)),
            )


def _unnamed(item):
    return item[1] if isinstance(item, tuple | list) and len(item) == 2 else item


def check_kinds(callbacks: Sequence) -> None:
    """Refuse what is no callback.

    Raises
    ------
    TypeError
    """
    for item in callbacks:
        callback = _unnamed(item)
        if callback is not None and not hasattr(callback, "on_train_begin"):
            raise TypeError(
                f"callbacks: {callback!r} is no callback of skorch. Pass skorch.callbacks.Callback "
                "objects, or pairs of a name and a callback; a scheduler of torch goes into "
                "LRScheduler(policy=...)."
            )


def check_callbacks(
    callbacks: Sequence[tuple[str, Callback]], *, held_out: bool, n_phases: int, averaged: bool
) -> None:
    """Refuse callbacks that can mean nothing in a fit, before it trains.

    Parameters
    ----------
    callbacks : sequence of pairs of a name and an initialised callback
    held_out : bool
        Whether rows are held out.
    n_phases : int
        Number of phases of the training.
    averaged : bool
        Whether the weights are averaged.

    Raises
    ------
    ValueError
        That names the callback and what to take instead.
    """
    for _, callback in callbacks:
        reason = (
            _refuse_anywhere(callback)
            or (not held_out and _refuse_without_held_out(callback))
            or (n_phases > 1 and _refuse_with_phases(callback))
            or (averaged and _refuse_with_average(callback))
        )
        if reason:
            raise ValueError(f"callbacks: {type(callback).__name__} {reason}")


def _refuse_anywhere(callback) -> str | None:
    if isinstance(callback, InputShapeSetter):
        return "has nothing to set: the network is made for the features of X. Leave it out."
    if isinstance(callback, BatchScoring | EpochScoring):
        scoring = callback.scoring_
        if not callable(scoring) or hasattr(scoring, "_score_func"):
            return (
                f"compares predictions with targets (scoring={callback.scoring!r}), but a detector's "
                "network predicts no target. Pass a function scoring(net, X, y) that returns a number, "
                "or score the fitted detector."
            )
    if (
        isinstance(callback, LoadInitState)
        and isinstance(callback.checkpoint, TrainEndCheckpoint)
        and not hasattr(callback.checkpoint, "checkpoint_")
    ):
        return "needs its TrainEndCheckpoint in callbacks too: callbacks=[checkpoint, load]."
    return None


def _refuse_without_held_out(callback) -> str | None:
    none = "and none are held out: set early_stopping=True, or"
    if isinstance(callback, BatchScoring | EpochScoring | PassthroughScoring):
        if not callback.on_train:
            return f"scores held-out rows, {none} on_train=True."
    if isinstance(callback, WandbLogger) and callback.save_model:
        return f"saves the model that is best on held-out rows, {none} save_model=False."
    if isinstance(callback, Checkpoint | EarlyStopping) or _follows_a_loss(callback):
        if callback.monitor in ("valid_loss", "valid_loss_best"):
            instead = callback.monitor.replace("valid", "train")
            return f"watches the loss of held-out rows, {none} monitor={instead!r}."
    return None


def _follows_a_loss(callback) -> bool:
    return (
        isinstance(callback, LRScheduler)
        and isinstance(callback.policy_, type)
        and issubclass(callback.policy_, ReduceLROnPlateau)
    )


def _refuse_with_phases(callback) -> str | None:
    if isinstance(callback, LoadInitState):
        return (
            "would have its weights trained over by the pre-training. Set pretrain=None where the "
            "detector has it, take checkpoint= to go on with a fit that was killed, or "
            "warm_start=True to go on with a fitted detector."
        )
    return None


def _refuse_with_average(callback) -> str | None:
    if isinstance(callback, EarlyStopping) and callback.load_best:
        return (
            "would put weights of one epoch in the place of their average (load_best=True). Set "
            "early_stopping=True, which keeps the best average, or ema_decay=None."
        )
    return None


def reads_batches(callback: Callback) -> bool:
    """Whether a callback reads of every batch in the history without listening to batches."""
    if isinstance(callback, Checkpoint | TrainEndCheckpoint):
        return any(
            isinstance(name, str) and "last_batch" in name
            for name in (getattr(callback, key) for key in vars(callback) if key.startswith("f_"))
        )
    return isinstance(callback, PassthroughScoring)
