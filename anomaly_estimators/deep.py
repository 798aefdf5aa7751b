"""The bridge between a network and the detector contract."""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from torch import Tensor, nn

from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.fingerprint import data_fingerprint
from anomaly_estimators.row_blocks import join, precision_of
from anomaly_estimators.scalers import SCALERS
from anomaly_estimators.training.batches import (
    automatic_batch_size,
    automatic_max_iter,
    make_batches,
)
from anomaly_estimators.training.callbacks import check_kinds, copy_callbacks
from anomaly_estimators.training.checkpoints import claim_file, describe, load_checkpoint
from anomaly_estimators.training.devices import resolve_device
from anomaly_estimators.training.foreign import is_own
from anomaly_estimators.training.forks import usable_threads
from anomaly_estimators.training.guards import warn_if_collapsed, warn_if_unmoved
from anomaly_estimators.training.loop import TrainingOptions, run_phases
from anomaly_estimators.training.net import OPTIMIZERS, DetectorNet
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.placement import hold_out, place_rows
from anomaly_estimators.training.precision import SinglePrecision
from anomaly_estimators.training.randomness import isolated_randomness
from anomaly_estimators.training.redirection import redirected
from anomaly_estimators.training.rows import RowSource
from anomaly_estimators.training.scaling import fit_scaler
from anomaly_estimators.training.schedules import SCHEDULES
from anomaly_estimators.training.stopping import EarlyStopping

__all__ = ["DeepDetector"]


class DeepDetector(OutlierDetector):
    """Base class of the detectors that train a network.

    A method is a network, a loss and a score. A subclass defines

    - ``_build_module(n_features)``: the network, a :class:`torch.nn.Module`;
    - ``_phases(module)``: a list of :class:`~anomaly_estimators.training.phases.Phase`, each with
      the loss, a function of what the network returns for a batch, of the batch, and of its labels;
    - ``_module_score(module, X)``: the anomaly score of a batch, a tensor with one value a row;
    - ``_finish(X)``, if something is to be estimated on all training rows with the trained network;
    - ``_trim(module)``, if parts of the network are of no use once it is trained;

    and inherits training, scaling, batches, devices, seeds, early stopping, weight averaging,
    checkpoints, progress, guards, thresholds and persistence.

    Parameters
    ----------
    scaler : {"standard", "minmax", "robust"}, transformer or None, default="standard"
        Scaling of the features before the network, fitted on the training rows; ``None`` if the
        rows are scaled already. Any scikit-learn transformer that keeps the number of features will
        do.
    max_iter : int or None, default=None
        Number of epochs. ``None`` takes as many as make 2,000 steps, within 20 and 200.
    batch_size : int or "auto", default="auto"
        Rows in a mini-batch. "auto" takes a fiftieth of the rows, within 32 and 1024.
    learning_rate : float, default=1e-3
        Step size of the optimizer.
    lr_schedule : {"constant", "cosine", "linear", "step", "two_phase", "warmup_cosine"} \
            or callable, \
            default="constant"
        Factor on the learning rate, as a function of the share of the epochs that has passed.
    weight_decay : float, default=0.0
        Weight decay of the optimizer.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"} or callable, default="adam"
        A class of :mod:`torch.optim`, or a callable ``optimizer(parameters, lr=...)`` that takes
        ``weight_decay`` too where that is not 0. Its steps must need no closure, so not LBFGS.
    ema_decay : float or None, default=None
        If set, the weights at the end are an exponential moving average over the steps with this decay,
        such as 0.999, which calms methods whose ranking jumps from epoch to epoch.
    early_stopping : bool, default=False
        Whether to hold out a part of the training rows, to stop when the loss on it no longer
        falls, and to keep the best weights.
    validation_fraction : float, default=0.1
        Share of the rows to hold out for early stopping. Labelled rows are split in the same
        proportion.
    n_iter_no_change : int, default=10
        Epochs without an improvement after which early stopping ends the training.
    tol : float, default=1e-4
        Relative improvement of the held-out loss that counts for early stopping.
    callbacks : list of skorch callbacks or None, default=None
        They meet the net at its events as described in skorch's documentation. A fit works with copies
        of them, in ``net_.callbacks_``, which hold what they recorded; the run or the writer of a
        logger, and files, are those that you gave. Every phase of the training is one of its own to
        them, but not to loggers. A callback that can mean nothing in the fit is refused before it.
    checkpoint : str, path-like or None, default=None
        Where the state of the training is written every minute. A fit with the same data and
        parameters goes on from it after it was killed, with the same outcome. The name is that of a
        family: "run.pt" makes a file "run-<fingerprint>.pt" for every fit, known by its data and
        parameters, so that the fits of a search, one after the other or side by side, can share it.
        A second fit that is equal to one that is still running has "run-<fingerprint>-1.pt". The file
        is deleted when the fit is complete, as is the ".lock" beside it; those of a fit that was given
        up are yours to delete. What ``callbacks`` remember is not in it.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" and so on; "auto" takes CUDA where there is one.
    warm_start : bool, default=False
        Whether a second ``fit`` goes on from the weights of the one before. Pre-training and
        scaling are then kept.
    random_state : int, RandomState instance or None, default=None
        Decides the initial weights, the order of the batches, and dropout. An int makes fits
        reproducible bit by bit on one machine.
    verbose : int, default=0
        1 shows a progress bar; 0 prints nothing.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The skorch net. Its ``forward`` and ``predict`` take rows on the network's scale, those of
        ``scaler_.transform(X)``, and give what the network returns; only ``fit`` of the detector
        trains it.
    module_ : torch.nn.Module
        The trained network.
    scaler_ : transformer or None
        The fitted scaler.
    history_ : list of dict
        One row an epoch: phase, losses.
    loss_curve_ : list of float
        Training loss of every epoch, without pre-training.
    n_iter_ : int
        Number of epochs run, without pre-training.
    """

    _parameter_constraints: dict = {
        **OutlierDetector._parameter_constraints,
        "scaler": [StrOptions(set(SCALERS)), HasMethods(["fit", "transform"]), None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(SCHEDULES)), callable],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "ema_decay": [Interval(Real, 0, 1, closed="neither"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "callbacks": [list, tuple, None],
        "checkpoint": [str, os.PathLike, None],
        "device": [str],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _local_parameters = OutlierDetector._local_parameters | {"checkpoint"}
    _passive_parameters = OutlierDetector._passive_parameters | {
        "callbacks",
        "checkpoint",
        "device",
        "verbose",
        "warm_start",
    }
    # Seconds between two checkpoints.
    _checkpoint_interval = 60.0

    def __init__(
        self,
        *,
        scaler="standard",
        max_iter=None,
        batch_size="auto",
        learning_rate=1e-3,
        lr_schedule="constant",
        weight_decay=0.0,
        optimizer="adam",
        ema_decay=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        callbacks=None,
        checkpoint=None,
        device="auto",
        warm_start=False,
        random_state=None,
        verbose=0,
        **inherited,
    ):
        super().__init__(**inherited)
        self.scaler = scaler
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.ema_decay = ema_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # What a method defines

    def _build_module(self, n_features: int) -> nn.Module:
        """Return the network, initialised by torch's random functions.

        It is called under ``torch.device("meta")`` too, where tensors have shapes but no values.
        """
        raise NotImplementedError

    def _phases(self, module: nn.Module) -> list[Phase]:
        """Return the phases of the training."""
        raise NotImplementedError

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        """Return the anomaly scores of a batch, of shape (n,)."""
        raise NotImplementedError

    def _module_latent_and_score(self, module: nn.Module, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return what an UAI layer builds upon: the latent representation and the score of a batch."""
        return self._module_transform(module, X), self._module_score(module, X)

    def _trim(self, module: nn.Module) -> None:
        """Drop from the trained network, in place, what no score needs."""

    def _finish(self, X: np.ndarray) -> None:
        """Estimate on all training rows what the scores need beside the trained weights."""

    # Persistence

    def _get_fitted_state(self) -> dict:
        state = super()._get_fitted_state()
        net = state.pop("net_")
        module = {name: tensor.cpu().numpy() for name, tensor in net.module_.state_dict().items()}
        history = [dict(row) for row in net.history]
        return {**state, "module": module, "history": history, "net_batch_size": net.batch_size}

    def _set_fitted_state(self, state: dict) -> None:
        state = dict(state)
        weights = {name: torch.tensor(array) for name, array in state.pop("module").items()}
        history, batch_size = state.pop("history"), state.pop("net_batch_size")
        super()._set_fitted_state(state)
        try:
            device = resolve_device(self.device)
        except ValueError:
            # Fitted on a machine that has it.
            device = torch.device("cpu")
        with isolated_randomness(0, torch.device("cpu")):
            self._check_shapes(weights)
            module = self._new_module(self._n_trained_features)
        self._trim(module)
        module.load_state_dict(weights)
        self.net_ = self._make_net(module.eval(), device, batch_size)
        self.net_.history.extend(dict(row) for row in history)

    def _check_shapes(self, weights: dict[str, Tensor]) -> None:
        """Refuse weights of another network, before memory is taken for that network."""
        with torch.device("meta"):
            module = self._new_module(self._n_trained_features)
        self._trim(module)
        expected = {name: (tuple(t.shape), t.dtype) for name, t in module.state_dict().items()}
        found = {name: (tuple(t.shape), t.dtype) for name, t in weights.items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise ValueError(
                    f"the parameters make a network whose {name!r} has the shape and type "
                    f"{expected.get(name)}, but the stored one has {found.get(name)}"
                )

    # The bridge

    @property
    def module_(self) -> nn.Module:
        # A property, so that the module exists once in memory and in a pickle.
        try:
            return vars(self)["net_"].module_
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'module_' before fit"
            ) from None

    @property
    def history_(self) -> list[dict]:
        try:
            return vars(self)["net_"].history
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'history_' before fit"
            ) from None

    def _check_parameters(self) -> None:
        resolve_device(self.device)
        check_kinds(self.callbacks or [])
        if self.checkpoint is not None:
            folder = os.path.dirname(os.path.abspath(self.checkpoint))
            if not os.path.isdir(folder):
                raise ValueError(
                    f"checkpoint={self.checkpoint!r}: the folder {folder} does not exist."
                )

    def _fit(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        warm = self.warm_start and "net_" in vars(self)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        if self.checkpoint is None:
            self._train(X, labels, warm, seed)
            return
        started = f" after {len(self.history_)} epochs" if warm else ""
        fingerprint = data_fingerprint(X, labels, self._describe() + started)
        with claim_file(self.checkpoint, fingerprint) as file:
            resume = load_checkpoint(file, fingerprint)
            seed = resume["seed"] if resume else seed
            self._train(X, labels, warm, seed, file, fingerprint, resume)

    def _train(
        self,
        X: np.ndarray,
        labels: np.ndarray | None,
        warm: bool,
        seed: int,
        file: Path | None = None,
        fingerprint: str = "",
        resume: dict | None = None,
    ) -> None:
        """Train, from a state of a training if there is one, and write such states to a file."""
        device = resolve_device(self.device)
        scaler = self.scaler_ if warm else self._fit_scaler(X)
        with isolated_randomness(seed, device), usable_threads():
            module = self._warm_module(X) if warm else self._new_module(X.shape[1])
            net = self._make_net(module, device, self._resolve_batch_size(X.shape[0]))
            if warm and not resume:
                net.history.extend(dict(row) for row in self.history_)
            automatic = automatic_max_iter(X.shape[0], net.batch_size)
            with redirected():
                phases = self._phases(net.module_)
            phases = [
                replace(
                    phase,
                    max_iter=phase.max_iter or automatic,
                    begin=None if warm else phase.begin,
                )
                for phase in phases
                if phase.main or not warm
            ]
            parts = None
            if self.early_stopping:
                kinds = np.zeros(X.shape[0], dtype=np.int8) if labels is None else labels
                parts = hold_out(kinds, self.validation_fraction, seed)
            datasets = place_rows(RowSource(X, scaler, np.float32), labels, device, parts)
            initial = [parameter.detach().clone() for parameter in net.module_.parameters()]
            run_phases(
                net,
                phases,
                *datasets,
                self._training_options(seed, file, fingerprint),
                torch.Generator().manual_seed(seed),
                resume,
            )
        del datasets
        net.module_.eval()
        warn_if_unmoved(net.module_, initial)
        self._trim(net.module_)
        self.scaler_ = scaler
        self.net_ = net
        self._n_trained_features = X.shape[1]
        main = {phase.name for phase in phases if phase.main}
        self.loss_curve_ = [row["train_loss"] for row in net.history if row["phase"] in main]
        self.n_iter_ = len(self.loss_curve_)
        self._finish(X)

    def _check_scores(self, scores: np.ndarray, X: np.ndarray) -> None:
        warn_if_collapsed(scores, X)

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        return join(self._map(self._module_score, X), X.shape[0])

    def _map(
        self,
        function: Callable[..., Tensor],
        X: np.ndarray,
        *beside: np.ndarray,
        scaled: bool = False,
        dtype=None,
    ) -> Iterator[np.ndarray]:
        """Apply ``function(module, rows)`` to all rows, piece by piece, in evaluation mode.

        Parameters
        ----------
        function : callable
            Returns a tensor with as many rows as it was given.
        X : ndarray of shape (n_samples, n_features)
        *beside : ndarray of shape (n_samples, ...)
            What else the function takes, cut into the same pieces.
        scaled : bool, default=False
            Whether the rows are on the network's scale already.
        dtype : numpy dtype, default=None
            Precision of the computation: float32 or float64. ``None`` takes that of X: float32 for
            float32 rows, float64 for all others.

        Yields
        ------
        ndarray
            In that precision.
        """
        dtype = precision_of(X) if dtype is None else np.dtype(dtype)
        module = self.net_.module_in(dtype)
        device = self.net_.device
        start = 0
        for piece in RowSource(X, None if scaled else self.scaler_, dtype).pieces():
            stop = start + len(piece)
            rest = [torch.from_numpy(array[start:stop]).to(device) for array in beside]
            # Left before the piece is yielded: the mode would be the caller's too.
            with torch.inference_mode(), usable_threads():
                mapped = function(module, piece.to(device), *rest).cpu().numpy()
            yield mapped.astype(dtype, copy=False)
            start = stop

    def _fit_scaler(self, X: np.ndarray):
        return fit_scaler(self.scaler, X)

    def _new_module(self, n_features: int) -> nn.Module:
        with redirected(), SinglePrecision():
            return self._build_module(n_features)

    def _warm_module(self, X: np.ndarray) -> nn.Module:
        if X.shape[1] != self._n_trained_features:
            raise ValueError(
                f"X has {X.shape[1]} features, but the fit that warm_start=True goes on from had "
                f"{self._n_trained_features}. Fit a new estimator, or set warm_start=False."
            )
        # A copy: the fitted model stays whole if the new fit fails.
        return copy.deepcopy(self.module_)

    def _describe(self) -> str:
        """Parameters that decide the outcome of a fit, as text that is the same in every process."""
        passive = {"callbacks", "checkpoint", "contamination", "device", "verbose"}
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in passive}
        return type(self).__name__ + describe(dict(sorted(params.items())))

    def _make_net(self, module: nn.Module, device: torch.device, batch_size: int) -> DetectorNet:
        net = DetectorNet(
            module,
            criterion=None,
            optimizer=self.optimizer,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            max_epochs=self.max_iter,
            batch_size=batch_size,
            iterator_valid=make_batches,
            predict_nonlinearity=None,
            callbacks=copy_callbacks(self.callbacks or []),
            verbose=self.verbose,
            device=device,
            foreign=not is_own(type(self)),
        )
        return net.initialize()

    def _resolve_batch_size(self, n_samples: int) -> int:
        return automatic_batch_size(n_samples) if self.batch_size == "auto" else self.batch_size

    def _training_options(self, seed: int, file: Path | None, fingerprint: str) -> TrainingOptions:
        schedule = self.lr_schedule
        progress = None
        if self.verbose:
            from anomaly_estimators.training.progress import ProgressBar

            progress = ProgressBar(type(self).__name__)
        return TrainingOptions(
            schedule=SCHEDULES[schedule] if isinstance(schedule, str) else schedule,
            ema_decay=self.ema_decay,
            early_stopping=(
                EarlyStopping(self.n_iter_no_change, self.tol) if self.early_stopping else None
            ),
            progress=progress,
            checkpoint=None if file is None else (file, self._checkpoint_interval),
            fingerprint=fingerprint,
            seed=seed,
        )
