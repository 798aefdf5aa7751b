"""The skorch net that runs every phase."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import skorch
import torch
from skorch.callbacks import Callback, EpochTimer
from torch import Tensor, nn

from anomaly_estimators.training.foreign import may_draw
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.redirection import redirected

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


class DetectorNet(skorch.NeuralNet):
    """A skorch net whose module, loss and optimizer follow the current phase.

    What it leaves out of skorch's loop is what costs as much as the step itself on small tables:
    one synchronising ``loss.item()`` a batch, one history row a batch, the training mode set anew
    at every batch, and notifications that nobody listens to. Callbacks that do listen to batches
    get all of it.

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
        # Contexts in which parts of a step run.
        self.in_module = self.in_loss = self.in_optimizer = nullcontext
        self.phase_: Phase | None = None
        # Called after every step of the optimizer, without arguments.
        self.after_step: Callable[[], None] | None = None
        # Epochs of the phase that are complete.
        self.epoch_ = 0
        # Context in which held-out rows are evaluated, and the best weights are kept.
        self.evaluation: Callable[[], AbstractContextManager] = nullcontext

    @property
    def _default_callbacks(self):
        # Without those that average the losses of the batches: run_single_epoch records the
        # epoch's.
        return [("epoch_timer", EpochTimer())]

    def begin_phase(self, phase: Phase) -> None:
        """Train this phase's module by its loss from now on, with a new optimizer."""
        self.phase_ = phase
        self.epoch_ = 0
        self.in_module = _context(self.foreign or any(map(may_draw, self.module_.modules())))
        self.in_loss = _context(self.foreign)
        self.in_optimizer = _context(not isinstance(self.optimizer, str))
        self._initialize_optimizer()

    def end_training(self) -> None:
        """Forget the last phase, whose loss may be a closure that no pickle can hold."""
        self.phase_ = None
        self.optimizer_ = None
        self.in_module = self.in_loss = self.in_optimizer = nullcontext

    def __getstate__(self):
        state = super().__getstate__()
        # skorch keeps the module twice, under both names; only as module_ can it be unpickled on a
        # machine without the device on which it was trained.
        if state.get("initialized_"):
            del state["module"]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "module" not in vars(self):
            self.module = self.module_

    @property
    def trained_module(self) -> nn.Module:
        """The module of the current phase."""
        if self.phase_ is None or self.phase_.module is None:
            return self.module_
        return self.phase_.module

    def get_all_learnable_params(self):
        yield from self.trained_module.named_parameters()

    def initialize_criterion(self):
        # The loss belongs to the phase.
        self.criterion_ = None
        return self

    def initialize_optimizer(self, triggered_directly=None):
        if self.phase_ is not None:
            lr = self.lr if self.phase_.learning_rate is None else self.phase_.learning_rate
            parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
            if self.phase_.faster is not None:
                part, rate = self.phase_.faster
                apart = set(part.parameters())
                parameters = [
                    {"params": [p for p in parameters if p not in apart]},
                    {"params": [p for p in parameters if p in apart], "lr": rate},
                ]
            self.optimizer_ = make_optimizer(self.optimizer, parameters, lr, self.weight_decay)
        return self

    def infer(self, x: Tensor, **fit_params):
        with self.in_module():
            return self.trained_module(x)

    def get_loss(self, y_pred, y_true, X=None, training=False) -> Tensor:
        with self.in_loss():
            return self.phase_.loss(y_pred, X, y_true)

    def train_step(self, batch, **fit_params):
        with self.in_optimizer():
            if self._grad_listeners:
                step = super().train_step(batch, **fit_params)
            else:
                self.optimizer_.zero_grad()
                step = self.train_step_single(batch, **fit_params)
                self.optimizer_.step()
        if self.phase_.observe is not None:
            with torch.no_grad(), self.in_loss():
                self.phase_.observe(step["y_pred"])
        if self.after_step is not None:
            self.after_step()
        return step

    def train_step_single(self, batch, **fit_params):
        X, y = batch
        outputs = self.infer(X)
        loss = self.get_loss(outputs, y, X=X, training=True)
        with self.in_module():
            loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def validation_step(self, batch, **fit_params):
        X, y = batch
        with torch.no_grad():
            outputs = self.infer(X)
            return {"loss": self.get_loss(outputs, y, X=X), "y_pred": outputs}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        self.trained_module.train(training)
        listeners = self._listeners("on_batch_begin", "on_batch_end")
        self._grad_listeners = bool(self._listeners("on_grad_computed"))
        anneal = self.phase_.anneal
        if anneal is not None and not training:
            anneal(1.0)
        total, n_rows = 0.0, 0
        with nullcontext() if training else self.evaluation():
            for number, batch in enumerate(iterator):
                if anneal is not None and training:
                    anneal((self.epoch_ + number / len(iterator)) / self.phase_.max_iter)
                if listeners:
                    self._notify_batch(listeners, "on_batch_begin", batch=batch, training=training)
                step = step_fn(batch)
                size = len(batch[0])
                total = total + step["loss"].detach() * size
                n_rows += size
                if listeners:
                    self.history.record_batch(prefix + "_loss", step["loss"].item())
                    self.history.record_batch(prefix + "_batch_size", size)
                    self._notify_batch(
                        listeners, "on_batch_end", batch=batch, training=training, **step
                    )
        # The only synchronisation of an epoch.
        self.history.record(prefix + "_loss", float(total) / n_rows)

    def notify(self, method_name, **kwargs):
        with redirected() if self.callbacks else nullcontext():
            super().notify(method_name, **kwargs)

    def _listeners(self, *events: str) -> list[Callback]:
        """Callbacks that do something at one of the events."""
        return [
            callback
            for _, callback in self.callbacks_
            if any(
                getattr(type(callback), event) is not getattr(Callback, event) for event in events
            )
        ]

    def _notify_batch(self, listeners: list[Callback], event: str, **kwargs) -> None:
        with redirected():
            getattr(self, event)(self, **kwargs)
            for callback in listeners:
                getattr(callback, event)(self, **kwargs)


def _context(foreign: bool) -> Callable[[], AbstractContextManager]:
    """Where code runs that may draw random numbers; the library's own needs, and pays, nothing."""
    return redirected if foreign else nullcontext
