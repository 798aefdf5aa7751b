"""The skorch net that runs every phase."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache

import numpy as np
import skorch
import torch
from sklearn.utils import check_array
from skorch.callbacks import Callback, EarlyStopping, EpochTimer
from skorch.exceptions import SkorchTrainingImpossibleError
from skorch.utils import is_dataset
from torch import Tensor, nn

from anomaly_estimators.training.batches import make_batches
from anomaly_estimators.training.callbacks import LOGGERS, reads_batches
from anomaly_estimators.training.foreign import may_draw
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.placement import place_rows
from anomaly_estimators.training.redirection import redirected
from anomaly_estimators.training.rows import RowSource
from anomaly_estimators.training.stopping import StopPhase
from anomaly_estimators.training.twin import DoubleTwin

__all__ = ["OPTIMIZERS", "DetectorNet", "make_optimizer"]

#: The optimizers that can be asked for by name. Fused: one kernel for all parameters of a step.
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict]] = {
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "sgd": (torch.optim.SGD, {"fused": True, "momentum": 0.9}),
}


def make_optimizer(
    optimizer: str | Callable, parameters: list, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build an optimizer from its name, its class, or any callable with the same signature.

    The parameters are a list, or groups of them as torch's optimizers take them.
    """
    cls, options = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else (optimizer, {})
    if weight_decay:
        options = {**options, "weight_decay": weight_decay}
    return cls(parameters, lr=lr, **options)


class PhaseLoss(nn.Module):
    """Stands for the loss in what skorch saves: it belongs to the phase, and has no weights."""


class DetectorNet(skorch.NeuralNet):
    """A skorch net whose module, loss and optimizer follow the current phase.

    What it leaves out of skorch's loop is what costs as much as the step itself on small tables:
    one synchronising ``loss.item()`` a batch, one history row a batch, the training mode set anew
    at every batch, and notifications that nobody listens to. Callbacks that do listen to batches
    get all of it.

    Its detector trains it. Once it is trained, rows on the network's scale can be sent through it
    (``forward``, ``predict``), its weights can be saved and loaded, and its callbacks, in
    ``callbacks_``, hold what they recorded.

    Parameters
    ----------
    module : torch.nn.Module
        The whole network.
    weight_decay : float
    foreign : bool, default=False
        Whether the phases are not the library's, so that anything in them may draw random numbers.
    All other parameters are those of :class:`skorch.NeuralNet`.
    """

    def __init__(self, *args, weight_decay: float = 0.0, foreign: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.weight_decay = weight_decay
        self.foreign = foreign
        # Losses of the phase that are the best so far.
        self.best_losses_: dict[str, float] = {}
        # Epochs of the phase that are complete.
        self.epoch_ = 0
        self._twin = DoubleTwin()
        self.end_training()

    def begin_training(self, engine: Sequence[Callback], make_iterator: Callable, split) -> None:
        """Have parts of the engine listen, after the callbacks of the user.

        Parameters
        ----------
        engine : sequence of callbacks
        make_iterator : callable
            ``make_iterator(dataset, batch_size=...)`` -> batches to train on.
        split : callable or None
            What gives the data sets to train on and to hold out.
        """
        self.engine_ = list(engine)
        self.iterator_train = make_iterator
        self.train_split = split
        # What was frozen before: it is no matter of the optimizers. What a callback freezes may thaw.
        self.frozen_ = {p for p in self.module_.parameters() if not p.requires_grad}

    def module_in(self, dtype) -> nn.Module:
        """Return the module for rows of a precision: itself for float32, its twin for float64."""
        return self.module_ if dtype == np.float32 else self._twin.of(self.module_)

    def begin_phase(self, phase: Phase) -> None:
        """Train this phase's module by its loss from now on, with a new optimizer."""
        self.phase_ = phase
        self.epoch_ = 0
        self.max_epochs = phase.max_iter
        self.best_losses_ = {}
        self.in_module = _context(self.foreign or any(map(may_draw, self.module_.modules())))
        self.in_loss = _context(self.foreign)
        self.in_optimizer = _context(not isinstance(self.optimizer, str))
        with self._current_init_context("optimizer"):
            self.initialize_optimizer()

    def end_training(self) -> None:
        """Forget all that belongs to a training: losses may be closures that no pickle can hold."""
        self.phase_: Phase | None = None
        self.optimizer_ = None
        self.engine_: list[Callback] = []
        # Whether anybody listens to gradients.
        self.sees_gradients_ = False
        self.frozen_: set[nn.Parameter] = set()
        self.iterator_train = make_batches
        self.train_split = None
        # Called after every step of the optimizer, without arguments.
        self.after_step: Callable[[], None] | None = None
        # Context in which held-out rows are evaluated, and the best weights are kept.
        self.evaluation: Callable[[], AbstractContextManager] = nullcontext
        # Contexts in which parts of a step run.
        self.in_module = self.in_loss = self.in_optimizer = nullcontext

    def __getstate__(self):
        # A callback may pickle the net while it is trained.
        idle = object.__new__(type(self))
        vars(idle).update(vars(self))
        idle.end_training()
        state = skorch.NeuralNet.__getstate__(idle)
        state.pop("_twin", None)
        # skorch keeps the module twice, under both names; only as module_ can it be unpickled on a
        # machine without the device on which it was trained.
        if state.get("initialized_"):
            del state["module"]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        self._twin = DoubleTwin()
        if "module" not in vars(self):
            self.module = self.module_

    # Parameters

    @property
    def _default_callbacks(self):
        # Without those that average the losses of the batches: run_single_epoch records the
        # epoch's.
        return [("epoch_timer", EpochTimer())]

    def initialize_callbacks(self):
        super().initialize_callbacks()
        for _, callback in self.callbacks_:
            if isinstance(callback, LOGGERS):
                callback.keys_ignored_.add("phase")
        return self

    def _get_param_names(self):
        own = ("after_step", "evaluation", "in_loss", "in_module", "in_optimizer")
        return [n for n in super()._get_param_names() if n not in own and not n.startswith("_")]

    def set_params(self, **params):
        """Set parameters of the net, but not those with which a detector makes and trains it.

        Raises
        ------
        ValueError
        """
        for name in params:
            part = name.split("__")[0]
            made = part in ("module", "criterion")
            trained = part in ("lr", "optimizer") and self.optimizer_ is None
            if self.initialized_ and (made or trained):
                raise ValueError(
                    f"{name} cannot be set on the net of a detector, which makes and trains it. Set the "
                    "parameters of the detector, such as learning_rate, and fit it again."
                )
        return super().set_params(**params)

    @property
    def trained_module(self) -> nn.Module:
        """The module of the current phase."""
        if self.phase_ is None or self.phase_.module is None:
            return self.module_
        return self.phase_.module

    @property
    def current_phase(self) -> Phase:
        """The phase of the training.

        Raises
        ------
        SkorchTrainingImpossibleError
            If there is no training.
        """
        if self.phase_ is None:
            raise SkorchTrainingImpossibleError(
                "The net of a detector has a loss and an optimizer only while its detector is "
                "fitted. Call fit of the detector; with warm_start=True it goes on from its weights."
            )
        return self.phase_

    def get_all_learnable_params(self):
        yield from self.trained_module.named_parameters()

    def initialize_criterion(self):
        self.criterion_ = PhaseLoss()
        return self

    def initialize_optimizer(self, triggered_directly=None):
        if self.phase_ is not None:
            lr = self.lr if self.phase_.learning_rate is None else self.phase_.learning_rate
            parameters = [p for _, p in self.get_all_learnable_params() if p not in self.frozen_]
            if self.phase_.faster is not None:
                part, rate = self.phase_.faster
                apart = set(part.parameters())
                parameters = [
                    {"params": [p for p in parameters if p not in apart]},
                    {"params": [p for p in parameters if p in apart], "lr": rate},
                ]
            self.optimizer_ = make_optimizer(self.optimizer, parameters, lr, self.weight_decay)
        return self

    # Training

    def fit(self, X, y=None, **fit_params):
        """Refuse: the detector trains its net."""
        return self.fit_loop(X, y)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Refuse: the detector trains its net."""
        return self.fit_loop(X, y)

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train for some epochs of the current phase; refuse without one."""
        _ = self.current_phase
        return super().fit_loop(X, y, epochs=epochs, **fit_params)

    def infer(self, x: Tensor, **fit_params):
        if not isinstance(x, Tensor):
            x = torch.as_tensor(np.asarray(x, dtype=np.float32), device=self.device)
        with self.in_module():
            return self.trained_module(x)

    def get_loss(self, y_pred, y_true, X=None, training=False) -> Tensor:
        phase = self.current_phase
        with self.in_loss():
            return phase.loss(y_pred, X, y_true)

    def train_step(self, batch, **fit_params):
        phase = self.current_phase
        with self.in_optimizer():
            if self.sees_gradients_:
                step = super().train_step(batch, **fit_params)
            else:
                self.optimizer_.zero_grad()
                step = self.train_step_single(batch, **fit_params)
                self.optimizer_.step()
        if phase.observe is not None:
            with torch.no_grad(), self.in_loss():
                phase.observe(step["y_pred"])
        if self.after_step is not None:
            self.after_step()
        return step

    def train_step_single(self, batch, **fit_params):
        phase = self.current_phase
        X, y = batch
        outputs = self.infer(X)
        with self.in_loss():
            loss = phase.loss(outputs, X, y)
        with self.in_module():
            loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def validation_step(self, batch, **fit_params):
        phase = self.current_phase
        X, y = batch
        with torch.no_grad():
            outputs = self.infer(X)
            with self.in_loss():
                loss = phase.loss(outputs, X, y)
        return {"loss": loss, "y_pred": outputs}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        phase = self.current_phase
        self.trained_module.train(training)
        self.sees_gradients_ = bool(self._listeners("on_grad_computed"))
        listeners = self._listeners("on_batch_begin", "on_batch_end")
        by_batch = bool(listeners) or any(reads_batches(cb) for _, cb in self.callbacks_)
        if phase.anneal is not None and not training:
            phase.anneal(1.0)
        total, n_rows = 0.0, 0
        with nullcontext() if training else self.evaluation():
            for number, batch in enumerate(iterator):
                if phase.anneal is not None and training:
                    phase.anneal((self.epoch_ + number / len(iterator)) / phase.max_iter)
                if by_batch:
                    self.on_batch_begin(self, batch=batch, training=training)
                    self.tell(listeners, "on_batch_begin", batch=batch, training=training)
                step = step_fn(batch)
                size = len(batch[0])
                total = total + step["loss"].detach() * size
                n_rows += size
                if by_batch:
                    self.history.record_batch(prefix + "_loss", step["loss"].item())
                    self.history.record_batch(prefix + "_batch_size", size)
                    step["y_pred"] = _buildable(step["y_pred"])
                    self.tell(listeners, "on_batch_end", batch=batch, training=training, **step)
        if not by_batch and training:
            # There is always a last batch to be asked for, if only an empty one.
            self.history.new_batch()
        # The only synchronisation of an epoch.
        self._record_loss(prefix + "_loss", float(total) / n_rows)

    def _record_loss(self, name: str, loss: float) -> None:
        best = loss < self.best_losses_.get(name, math.inf)
        if best:
            self.best_losses_[name] = loss
        self.history.record(name, loss)
        self.history.record(name + "_best", best)

    def recall_losses(self, rows: Sequence[dict]) -> None:
        """Take up the best losses of a phase from its rows of the history."""
        for row in rows:
            for name in ("train_loss", "valid_loss"):
                if row.get(name + "_best"):
                    self.best_losses_[name] = row[name]

    @contextmanager
    def batches_in_history(self) -> Iterator[None]:
        """Have batches in all rows of the history, where skorch's callbacks look for the last."""
        for row in self.history:
            row.setdefault("batches", [{}])
        try:
            yield
        finally:
            for row in self.history:
                row.pop("batches", None)

    # Events

    def notify(self, method_name, **cb_kwargs):
        getattr(self, method_name)(self, **cb_kwargs)
        self.tell([cb for _, cb in self.callbacks_] + self.engine_, method_name, **cb_kwargs)

    def tell(self, listeners: Sequence[Callback], event: str, **kwargs) -> None:
        """Tell some callbacks of an event."""
        stopped = False
        # What the callbacks of users draw is the fit's too.
        with redirected() if self.callbacks else nullcontext():
            for callback in listeners:
                try:
                    getattr(callback, event)(self, **kwargs)
                except KeyboardInterrupt:
                    # By which skorch's ends a training in order: the others have to hear of the epoch.
                    if not isinstance(callback, EarlyStopping):
                        raise
                    stopped = True
        if stopped:
            raise StopPhase

    def _listeners(self, *events: str) -> list[Callback]:
        """Callbacks that do something at one of the events."""
        callbacks = [cb for _, cb in self.callbacks_] + self.engine_
        return [
            callback
            for callback in callbacks
            if any(
                getattr(getattr(callback, event), "__func__", None) is not getattr(Callback, event)
                for event in events
            )
        ]

    # Rows through the network

    def get_dataset(self, X, y=None):
        """Make a data set of rows on the network's scale."""
        if hasattr(X, "batches"):
            return X
        if is_dataset(X):
            raise TypeError(
                f"{type(X).__name__} cannot be cut into batches here. Pass the rows as an array, on the "
                "network's scale: scaler_.transform(X) of the detector."
            )
        X = check_array(X.detach().cpu() if isinstance(X, Tensor) else X, dtype=np.float32)
        labels = None if y is None else np.asarray(y)
        return place_rows(RowSource(X, None, np.float32), labels, torch.device(self.device))[0]

    def _set_training(self, training=True):
        self.trained_module.train(training)

    def evaluation_step(self, batch, training=False):
        self.check_is_fitted()
        modes = [(part, part.training) for part in self.trained_module.modules()]
        try:
            return _buildable(super().evaluation_step(batch, training=training))
        finally:
            # A callback may ask in the middle of an epoch.
            for part, mode in modes:
                part.training = mode

    def forward(self, X, training=False, device="cpu"):
        """Return what the module returns for rows on the network's scale, names included."""
        batches = list(self.forward_iter(X, training=training, device=device))
        if not isinstance(batches[0], tuple):
            return torch.cat(batches)
        parts = map(torch.cat, zip(*batches, strict=True))
        return getattr(type(batches[0]), "_make", tuple)(parts)

    # Files

    def save_params(self, *args, **kwargs):
        # The average of the weights, where there is one: the held-out loss is of it.
        with self.evaluation():
            super().save_params(*args, **kwargs)

    def load_params(self, *args, checkpoint=None, **kwargs):
        if checkpoint is not None and self.optimizer_ is None:
            checkpoint = copy.copy(checkpoint)
            checkpoint.f_optimizer = None
        with self.batches_in_history() if self.phase_ is None else nullcontext():
            super().load_params(*args, checkpoint=checkpoint, **kwargs)


@lru_cache
def _buildable_type(kind: type) -> type:
    return type(kind.__name__, (kind,), {"__new__": tuple.__new__, "__slots__": ()})


def _buildable(outputs):
    """Return named outputs that skorch, too, can move to a device: it makes tuples of iterables."""
    return _buildable_type(type(outputs))(outputs) if hasattr(outputs, "_fields") else outputs


def _context(foreign: bool) -> Callable[[], AbstractContextManager]:
    """Where code runs that may draw random numbers; the library's own needs, and pays, nothing."""
    return redirected if foreign else nullcontext
