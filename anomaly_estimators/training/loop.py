"""Running the phases of a fit."""

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from skorch.history import History

from anomaly_estimators.nn.randomness import current_generators
from anomaly_estimators.training.averaging import WeightAveraging
from anomaly_estimators.training.batches import make_batches
from anomaly_estimators.training.callbacks import LOGGERS, check_callbacks
from anomaly_estimators.training.checkpoints import Checkpointer
from anomaly_estimators.training.guards import FiniteGuard
from anomaly_estimators.training.net import DetectorNet
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.progress import ProgressBar
from anomaly_estimators.training.redirection import redirected
from anomaly_estimators.training.stopping import EarlyStopping, StopPhase

__all__ = ["TrainingOptions", "run_phases"]


@dataclass(kw_only=True)
class TrainingOptions:
    """What a fit asks of the engine beside its phases."""

    schedule: Callable[[float], float]
    ema_decay: float | None = None
    early_stopping: EarlyStopping | None = None
    progress: ProgressBar | None = None
    checkpoint: tuple[Path, float] | None = None  # file, seconds between two writes
    fingerprint: str = ""
    seed: int = 0
    # False where a training that was interrupted is of no use.
    keep_interrupted: bool = True


class _Conductor(Callback):
    """Keeps the parts of the engine in step with the epochs of a phase."""

    def __init__(self, run: "_Run"):
        self.run = run

    def on_epoch_begin(self, net, **kwargs):
        run = self.run
        net.epoch_ = run.epoch
        net.history.record("phase", net.phase_.name)
        with redirected():
            factor = run.options.schedule(run.epoch / net.phase_.max_iter) * run.guard.rate_
        # Set only when it changes, so that a user's own scheduler is left in peace; a new optimizer
        # (after a rollback) needs it again.
        if (factor, id(net.optimizer_)) != run.applied:
            for group, base in zip(net.optimizer_.param_groups, run.base_rates, strict=True):
                group["lr"] = base * factor
            run.applied = (factor, id(net.optimizer_))

    def on_epoch_end(self, net, **kwargs):
        # Of the epochs before, the last batch is enough.
        if len(net.history) > 1:
            net.history[-2].update(batches=net.history[-2]["batches"][-1:])
        self.run.epoch += 1


class _Run:
    """State of one training run."""

    def __init__(self, net: DetectorNet, options: TrainingOptions, generator: torch.Generator):
        self.net = net
        self.options = options
        self.generator = generator
        self.drawn_from = current_generators()
        self.guard = FiniteGuard()
        self.averaging = WeightAveraging(options.ema_decay) if options.ema_decay else None
        self.checkpointer = (
            Checkpointer(*options.checkpoint, self.state_dict) if options.checkpoint else None
        )
        self.phase_number = 0
        self.epoch = 0

    def parts(self) -> list[Callback]:
        """Parts of the engine in the order in which an epoch's end must meet them."""
        parts = [
            self.guard,
            _Conductor(self),
            self.options.progress,
            self.options.early_stopping,
            # Last, when all the others have taken the epoch in.
            self.checkpointer,
        ]
        return [part for part in parts if part is not None]

    def begin_phase(self, phase: Phase, announce: Callable[[], None]) -> None:
        net = self.net
        net.begin_phase(phase)
        if phase.optimizer_state:
            state = copy.deepcopy(phase.optimizer_state)
            net.optimizer_.load_state_dict({**net.optimizer_.state_dict(), "state": state})
        self.epoch = 0
        self.applied = (1.0, id(net.optimizer_))
        self.base_rates = [group["lr"] for group in net.optimizer_.param_groups]
        # Before the weights are taken down: a callback may load others.
        announce()
        if self.averaging:
            self.averaging.begin_phase(net)
            if phase.main:
                net.after_step = self.averaging.after_step
                net.evaluation = self.averaging.swapped_in
        self.guard.begin_phase(net, self.averaging.average_ if self.averaging else ())
        if self.options.early_stopping:
            self.options.early_stopping.begin_phase()

    def end_phase(self) -> None:
        net = self.net
        net.after_step = None
        net.evaluation = nullcontext
        if self.averaging:
            self.averaging.end_phase(net)
        if self.options.early_stopping and net.phase_.main:
            self.options.early_stopping.end_phase(net)
        if net.phase_.optimizer_state is not None:
            net.phase_.optimizer_state.clear()
            net.phase_.optimizer_state.update(net.optimizer_.state_dict()["state"])

    def state_dict(self) -> dict:
        cuda = self.net.device.type == "cuda"
        return {
            "fingerprint": self.options.fingerprint,
            "seed": self.options.seed,
            "phase": self.phase_number,
            "epoch": self.epoch,
            "factor": self.applied[0],
            "module": self.net.module_.state_dict(),
            "learnable": [p.requires_grad for p in self.net.module_.parameters()],
            "optimizer": self.net.optimizer_.state_dict(),
            "guard": self.guard.state_dict(),
            "averaging": self.averaging.state_dict() if self.averaging else None,
            "early_stopping": (
                self.options.early_stopping.state_dict() if self.options.early_stopping else None
            ),
            "shuffle": self.generator.get_state(),
            "random": self.drawn_from["cpu"].get_state(),
            "random_cuda": self.drawn_from["cuda"].get_state() if cuda else None,
            "history": [
                {k: _plain(v) for k, v in row.items() if isinstance(_plain(v), int | float | str)}
                for row in self.net.history
            ],
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on in the phase that has begun, at the epoch of the state."""
        self.epoch = state["epoch"]
        self.applied = (state["factor"], id(self.net.optimizer_))
        self.net.module_.load_state_dict(state["module"])
        for parameter, learnable in zip(
            self.net.module_.parameters(), state["learnable"], strict=True
        ):
            parameter.requires_grad_(learnable)
        self.net.recall_losses(state["history"][-self.epoch :] if self.epoch else [])
        if self.averaging:
            self.averaging.load_state_dict(state["averaging"])
        # The weights of a checkpoint are finite: the guard's snapshot starts from them.
        self.guard.begin_phase(self.net, self.averaging.average_ if self.averaging else ())
        self.guard.load_state_dict(state["guard"])
        self.net.optimizer_.load_state_dict(state["optimizer"])
        if self.options.early_stopping:
            self.options.early_stopping.load_state_dict(state["early_stopping"])
        self.generator.set_state(state["shuffle"])
        self.drawn_from["cpu"].set_state(state["random"])
        if state["random_cuda"] is not None and self.net.device.type == "cuda":
            self.drawn_from["cuda"].set_state(state["random_cuda"])


def run_phases(
    net: DetectorNet,
    phases: Sequence[Phase],
    dataset,
    valid_dataset,
    options: TrainingOptions,
    generator: torch.Generator,
    resume: dict | None = None,
) -> bool:
    """Train a net through its phases, within :func:`isolated_randomness`.

    Parameters
    ----------
    net : DetectorNet
        Initialised.
    phases : sequence of Phase
    dataset, valid_dataset : torch data sets
        The second may be ``None``.
    options : TrainingOptions
    generator : torch.Generator
        What shuffles the batches.
    resume : dict, default=None
        State of a checkpoint.

    Returns
    -------
    bool
        Whether the run came to its end; False after an interrupt by the keyboard.
    """
    check_callbacks(
        net.callbacks_,
        held_out=valid_dataset is not None,
        n_phases=len(phases),
        averaged=options.ema_decay is not None,
    )
    run = _Run(net, options, generator)
    if resume:
        for row in resume["history"]:
            net.history.append(dict(row))
    net.begin_training(
        run.parts(),
        partial(make_batches, generator=generator),
        (lambda *_: (dataset, valid_dataset)) if valid_dataset is not None else None,
    )
    first = resume["phase"] if resume else 0
    complete = True
    try:
        with net.batches_in_history():
            for number, phase in enumerate(phases):
                if number < first:
                    continue
                run.phase_number = number
                resumed = bool(resume) and number == first
                if phase.begin and not resumed:
                    _prepare(phase, net, dataset)
                announce = partial(_begin_training, net, dataset, number == first, resumed)
                run.begin_phase(phase, announce)
                if resumed:
                    run.load_state_dict(resume)
                complete = _run_phase(run, dataset)
                last = not complete or number == len(phases) - 1
                _announce(net, "on_train_end", dataset, to_loggers=last)
                if not complete:
                    _close_interrupted(run, phases[number:], dataset)
                    break
    finally:
        net.end_training()
    if run.checkpointer and complete:
        run.checkpointer.discard()
    return complete


def _run_phase(run: _Run, dataset) -> bool:
    """Train through the epochs of a phase that are left; return False after an interrupt."""
    net, progress = run.net, run.options.progress
    if progress:
        progress.begin_phase(net, run.epoch)
    complete = True
    try:
        net.fit_loop(dataset, epochs=net.phase_.max_iter - run.epoch)
    except StopPhase:
        pass
    except KeyboardInterrupt:
        if not run.options.keep_interrupted:
            raise
        complete = False
    finally:
        if progress:
            progress.end_phase(net)
    run.end_phase()
    return complete


def _close_interrupted(run: _Run, phases: Sequence[Phase], dataset) -> None:
    """Say that a phase was interrupted, and do without those after it."""
    _drop_unfinished_epoch(run.net)
    phase, *left_out = phases
    warnings.warn(
        f"Training was interrupted in phase {phase.name!r} at epoch {run.epoch} of "
        f"{phase.max_iter}: the estimator is fitted with the weights reached so far.",
        ConvergenceWarning,
        stacklevel=3,
    )
    # What they would have set has its part in the score too.
    for phase in left_out:
        if phase.begin:
            _prepare(phase, run.net, dataset)


@torch.no_grad()
def _prepare(phase: Phase, net: DetectorNet, dataset) -> None:
    """Let a phase look at the training rows before it begins."""
    (phase.module or net.module_).eval()
    with redirected():
        phase.begin(make_batches(dataset, net.batch_size))


def _plain(value):
    """Python's number for one of NumPy's, which a checkpoint could not be read with."""
    return value.item() if isinstance(value, np.generic) else value


def _announce(net: DetectorNet, event: str, dataset, *, to_loggers: bool) -> None:
    """Tell of the begin or the end of a phase: a training of its own to all but loggers."""
    listeners = [cb for _, cb in net.callbacks_ if to_loggers or not isinstance(cb, LOGGERS)]
    net.tell(listeners, event, X=dataset, y=None)


def _begin_training(net: DetectorNet, dataset, first: bool, resumed: bool) -> None:
    # Without the epochs before: a scheduler would look for its own traces in them.
    history, empty = net.history_, History()
    net.history_ = empty
    try:
        _announce(net, "on_train_begin", dataset, to_loggers=first)
    finally:
        # Unless a callback has loaded one to go on from.
        if resumed or net.history_ is empty:
            net.history_ = history


def _drop_unfinished_epoch(net: DetectorNet) -> None:
    if net.history and "train_loss" not in net.history[-1]:
        net.history.pop()
