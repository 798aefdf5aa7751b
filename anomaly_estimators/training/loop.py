"""Running the phases of a fit."""

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from skorch.history import History

from anomaly_estimators.nn.randomness import current_generators
from anomaly_estimators.training.averaging import WeightAveraging
from anomaly_estimators.training.batches import make_batches
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
    checkpoint: tuple[str, float] | None = None  # path, seconds between two writes
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
        net.history[-1].pop("batches", None)
        self.run.epoch += 1


class _Run:
    """State of one training run."""

    def __init__(self, net: DetectorNet, options: TrainingOptions, generator: torch.Generator):
        self.net = net
        self.options = options
        self.generator = generator
        self.drawn_from = current_generators()
        self.user_callbacks = list(net.callbacks_)
        self.guard = FiniteGuard()
        self.averaging = WeightAveraging(options.ema_decay) if options.ema_decay else None
        self.checkpointer = (
            Checkpointer(*options.checkpoint, self.state_dict) if options.checkpoint else None
        )
        self.phase_number = 0
        self.epoch = 0

    def callbacks(self) -> list[tuple[str, Callback]]:
        """Callbacks in the order in which an epoch's end must meet them."""
        own = [
            ("guard", self.guard),
            ("conductor", _Conductor(self)),
            ("progress", self.options.progress),
            ("early_stopping", self.options.early_stopping),
            # Last, when all the others have taken the epoch in.
            ("checkpoint", self.checkpointer),
        ]
        return [*self.user_callbacks, *((name, part) for name, part in own if part is not None)]

    def begin_phase(self, phase: Phase) -> None:
        net = self.net
        net.begin_phase(phase)
        if phase.optimizer_state:
            state = copy.deepcopy(phase.optimizer_state)
            net.optimizer_.load_state_dict({**net.optimizer_.state_dict(), "state": state})
        self.epoch = 0
        self.applied = (1.0, id(net.optimizer_))
        self.base_rates = [group["lr"] for group in net.optimizer_.param_groups]
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
    run = _Run(net, options, generator)
    if resume:
        for row in resume["history"]:
            net.history.append(dict(row))
    net.callbacks_ = run.callbacks()
    net.iterator_train = partial(make_batches, generator=generator)
    net.train_split = (lambda *_: (dataset, valid_dataset)) if valid_dataset is not None else None
    complete = True
    try:
        for number, phase in enumerate(phases):
            if resume and number < resume["phase"]:
                continue
            run.phase_number = number
            resumed = resume and number == resume["phase"]
            if phase.begin and not resumed:
                _prepare(phase, net, dataset)
            run.begin_phase(phase)
            _begin_training(net, dataset)
            if resumed:
                run.load_state_dict(resume)
            if options.progress:
                options.progress.begin_phase(net, run.epoch)
            try:
                net.fit_loop(dataset, epochs=phase.max_iter - run.epoch)
            except StopPhase:
                pass
            except KeyboardInterrupt:
                if not options.keep_interrupted:
                    raise
                complete = False
            finally:
                if options.progress:
                    options.progress.end_phase(net)
            run.end_phase()
            net.notify("on_train_end", X=dataset, y=None)
            if not complete:
                _drop_unfinished_epoch(net)
                warnings.warn(
                    f"Training was interrupted in phase {phase.name!r} at epoch {run.epoch} of "
                    f"{phase.max_iter}: the estimator is fitted with the weights reached so far.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
                # What the phases that are left out would have set has its part in the score too.
                for left_out in phases[number + 1 :]:
                    if left_out.begin:
                        _prepare(left_out, net, dataset)
                break
    finally:
        net.iterator_train = make_batches
        net.train_split = None
        net.callbacks_ = run.user_callbacks
        net.end_training()
    if run.checkpointer and complete:
        run.checkpointer.discard()
    return complete


@torch.no_grad()
def _prepare(phase: Phase, net: DetectorNet, dataset) -> None:
    """Let a phase look at the training rows before it begins."""
    (phase.module or net.module_).eval()
    with redirected():
        phase.begin(make_batches(dataset, net.batch_size))


def _plain(value):
    """Python's number for one of NumPy's, which a checkpoint could not be read with."""
    return value.item() if isinstance(value, np.generic) else value


def _begin_training(net: DetectorNet, dataset) -> None:
    """Announce a phase: to a callback it is a training of its own, with a new optimizer."""
    # Without the epochs before: a scheduler would look for its own traces in them.
    history, net.history_ = net.history_, History()
    try:
        net.notify("on_train_begin", X=dataset, y=None)
    finally:
        net.history_ = history


def _drop_unfinished_epoch(net: DetectorNet) -> None:
    if net.history and "train_loss" not in net.history[-1]:
        net.history.pop()
