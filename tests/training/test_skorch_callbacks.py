"""Every callback that skorch exports works in a fit, or is refused by name before it."""

import io
import json
import pickle
import sys
import threading
import types

import numpy as np
import pytest
import skorch.callbacks
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import make_scorer, mean_squared_error
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    Unfreezer,
    WandbLogger,
    WarmRestartLR,
)

from anomaly_estimators import DAGMM, UAI, Autoencoder, DeepSVDD
from anomaly_estimators.inspection import LossCurveDisplay
from anomaly_estimators.training.callbacks import copy_callbacks

N_EPOCHS = 4
# Phases before the detector's own.
PHASES = {"pretrain": "layerwise", "pretrain_max_iter": 2}
BEFORE = {
    Autoencoder: ["pre-training, layer 1", "pre-training, layer 2"],
    DAGMM: ["pre-training, layer 1", "pre-training, layer 2", "pre-training"],
}


class Spy(Callback):
    """Note which epochs were trained."""

    epochs: list = []

    def on_epoch_begin(self, net, **kwargs):
        self.epochs.append(len(net.history))


class Place:
    """Where a callback is tried: a detector, with or without rows that are held out."""

    def __init__(self, make, cls, rows, held_out, folder):
        self.make, self.cls, self.rows = make, cls, rows
        self.held_out, self.folder = held_out, folder
        self.n_before = 2 * len(BEFORE[cls])
        self.codes = "encoder.0.*" if cls is Autoencoder else "autoencoder.encoder.0.*"

    def fit(self, *callbacks, **params):
        params = {"max_iter": N_EPOCHS, "early_stopping": self.held_out, **params}
        detector = self.make(self.cls, callbacks=list(callbacks), **params).fit(self.rows)
        assert np.isfinite(detector.score_samples(self.rows)).all()
        assert all("batches" not in row for row in detector.history_)
        pickle.loads(pickle.dumps(detector.module_))
        return detector

    def refuse(self, callback, match, **params):
        Spy.epochs.clear()
        with pytest.raises(ValueError, match=match) as caught:
            self.fit(Spy(), callback, **params)
        assert type(callback).__name__ in str(caught.value)
        assert Spy.epochs == []

    def column(self, name, *callbacks, **params):
        history = self.fit(*callbacks, **params).history_
        return [row[name] for row in history]

    def names(self):
        return {path.name for path in self.folder.iterdir()}


def size_of_first(net, X, y):
    """Scorer that asks the net, by name, for what it makes of the rows."""
    outputs = net.forward(X)
    assert outputs.reconstruction.shape == (len(y), 5)
    return outputs[0].abs().mean().item()


def _scoring(kind):
    def try_out(place):
        for scoring in ("neg_mean_squared_error", mean_squared_error, None):
            place.refuse(kind(scoring, name="a", on_train=True), "network predicts no target")
        place.refuse(kind(make_scorer(mean_squared_error), on_train=True), "predicts no target")
        for use_caching in (True, False):
            score = size_of_first if use_caching or kind is BatchScoring else _without_labels
            scoring = kind(score, name="size", on_train=True, use_caching=use_caching)
            found = place.column("size", scoring)
            assert len(set(found)) == N_EPOCHS
        on_held_out = kind(size_of_first, name="size")
        if place.held_out:
            assert len(set(place.column("size", on_held_out))) == N_EPOCHS
        else:
            place.refuse(on_held_out, "early_stopping=True, or on_train=True")

    return try_out


def _without_labels(net, X, y):
    assert y is None
    return float(np.abs(net.predict(X)).mean())


def _passthrough(place):
    class Own(Callback):
        def on_batch_end(self, net, training, batch, **kwargs):
            net.history.record_batch("size", len(batch[0]))

    rows = 120 - 12 * place.held_out
    sizes = [32] * (rows // 32) + [rows % 32]
    passing = PassthroughScoring("size", on_train=True)
    assert place.column("size", Own(), passing, batch_size=32) == pytest.approx(
        [np.average(sizes, weights=sizes)] * N_EPOCHS
    )
    # That of all batches, although nothing else listens to them.
    loss = PassthroughScoring("train_loss", on_train=True)
    assert place.column("train_loss", loss) == pytest.approx(place.column("train_loss"))
    if not place.held_out:
        place.refuse(PassthroughScoring("valid_loss"), "on_train=True")


def _checkpoint(place):
    folder = str(place.folder)
    files = {"params.pt", "optimizer.pt", "criterion.pt", "history.json"}
    for monitor in (None, "train_loss_best", lambda net: len(net.history) == 2):
        detector = place.fit(Checkpoint(monitor=monitor, dirname=folder))
        assert place.names() == files
        triggered = [row["event_cp"] for row in detector.history_]
        if callable(monitor):
            assert triggered == [False, True, False, False]
        assert any(triggered) and (monitor is not None or all(triggered))
        for path in place.folder.iterdir():
            path.unlink()
    if not place.held_out:
        for monitor in ("valid_loss_best", "valid_loss"):
            place.refuse(Checkpoint(monitor=monitor), "early_stopping=True, or monitor='train_loss")
        return
    named = Checkpoint(
        dirname=folder, f_params="{last_epoch[epoch]}-{last_batch[valid_batch_size]}.pt"
    )
    detector = place.fit(named, learning_rate=0.5)
    best = [row["epoch"] for row in detector.history_ if row["valid_loss_best"]]
    losses = [row["valid_loss"] for row in detector.history_]
    assert best == [i + 1 for i in range(N_EPOCHS) if losses[i] == min(losses[: i + 1])]
    assert {f"{epoch}-12.pt" for epoch in best} <= place.names()
    # The best is put back, in whatever way it is asked for.
    loading = Checkpoint(dirname=folder, load_best=True)
    detector = place.fit(loading, learning_rate=0.5)
    assert len(detector.history_) == best[-1]
    weights = torch.load(place.folder / "params.pt", weights_only=True)
    assert_parameters(detector, weights)
    with torch.no_grad():
        next(detector.module_.parameters()).zero_()
    detector.net_.load_params(checkpoint=loading)
    assert_parameters(detector, weights)


def assert_parameters(detector, weights):
    """The buffers may have been estimated once the training was over."""
    for name, parameter in detector.module_.named_parameters():
        assert torch.equal(parameter, weights[name]), name


def _train_end(place):
    end = TrainEndCheckpoint(dirname=str(place.folder), f_pickle="net.pkl")
    detector = place.fit(end)
    weights = torch.load(place.folder / "train_end_params.pt", weights_only=True)
    assert_parameters(detector, weights)
    assert place.names() >= {"train_end_optimizer.pt", "train_end_history.json"}
    history = json.loads((place.folder / "train_end_history.json").read_text())
    assert [row["epoch"] for row in history] == list(range(1, N_EPOCHS + 1))
    net = pickle.loads((place.folder / "train_end_net.pkl").read_bytes())
    X = detector.scaler_.transform(place.rows)
    np.testing.assert_array_equal(net.predict(X), detector.net_.predict(X))
    assert dict(net.callbacks_).keys() == {"epoch_timer", "TrainEndCheckpoint"}


def _load_state(place):
    folder = str(place.folder)
    for checkpoint in (
        TrainEndCheckpoint(dirname=folder),
        Checkpoint(monitor=None, dirname=folder),
    ):
        callbacks = [checkpoint, LoadInitState(checkpoint)]
        first, second = place.fit(*callbacks), place.fit(*callbacks)
        assert [row["epoch"] for row in second.history_] == list(range(1, 2 * N_EPOCHS + 1))
        assert second.loss_curve_[:N_EPOCHS] == first.loss_curve_
        # It goes on from there, optimizer included.
        assert second.loss_curve_[N_EPOCHS] < first.loss_curve_[0]
        for path in place.folder.iterdir():
            path.unlink()
    place.refuse(LoadInitState(TrainEndCheckpoint()), "in callbacks too")
    checkpoint = Checkpoint(monitor=None, dirname=folder)
    place.refuse(LoadInitState(checkpoint), "pretrain=None", **PHASES)


def _weights(detector, pattern):
    name = pattern.replace("*", "weight")
    return dict(detector.module_.named_parameters())[name]


def _freezer(place):
    class First(Callback):
        def on_train_begin(self, net, **kwargs):
            self.weights = _weights(net, place.codes).detach().clone()

    moved, still = place.fit(First()), place.fit(First(), Freezer(place.codes))
    for detector, frozen in ((moved, False), (still, True)):
        first = dict(detector.net_.callbacks_)["First"].weights
        assert torch.equal(first, _weights(detector, place.codes)) == frozen


def _unfreezer(place):
    # Frozen in the first epoch of all; thawed in the second of the training.
    class Watch(Callback):
        def __init__(self):
            self.taken = []

        def on_epoch_begin(self, net, **kwargs):
            self.taken.append(_weights(net, place.codes).detach().clone())

    # In a phase for a layer its parameters have names of their own.
    callbacks = [
        Watch(),
        Freezer(["encoder.*", place.codes]),
        Unfreezer(place.codes, at=place.n_before + 2),
    ]
    detector = place.fit(*callbacks, **PHASES)
    weights = dict(detector.net_.callbacks_)["Watch"].taken
    assert all(torch.equal(weights[0], later) for later in weights[1 : place.n_before + 2])
    assert not torch.equal(weights[place.n_before + 1], weights[place.n_before + 2])


def _initializer(place):
    class Seen(Callback):
        def on_batch_begin(self, net, **kwargs):
            self.__dict__.setdefault("first", _weights(net, place.codes).detach().clone())

    fn = lambda p: torch.nn.init.constant_(p, 0.25)  # noqa: E731
    detector = place.fit(Initializer(place.codes, fn=fn), Seen())
    assert (dict(detector.net_.callbacks_)["Seen"].first == 0.25).all()


def _mapper(place):
    class Widest(Callback):
        def on_batch_begin(self, net, **kwargs):
            net.history.record("widest", _weights(net, place.codes).abs().max().item())

    mapper = ParamMapper(place.codes, fn=lambda p: p.data.clamp_(-0.01, 0.01), at=N_EPOCHS)
    widest = place.column("widest", mapper, Widest(), learning_rate=1e-5)
    assert min(widest[:-1]) > 0.1 and widest[-1] < 0.011


def _scheduler(place):
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.5)
    rates = place.column("event_lr", scheduler, learning_rate=0.01)
    assert rates == pytest.approx([0.01, 0.005, 0.0025, 0.00125])
    by_loss = LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=0, threshold=10.0)
    if place.held_out:
        assert place.column("event_lr", by_loss)[-1] < 1e-3
    else:
        place.refuse(by_loss, "monitor='train_loss'")


def _warm_restart(place):
    scheduler = LRScheduler(WarmRestartLR, min_lr=0.001, max_lr=0.01, base_period=2)
    assert len(set(place.column("event_lr", scheduler))) > 1
    with pytest.raises(TypeError, match=r"WarmRestartLR.*LRScheduler\(policy="):
        place.fit(WarmRestartLR)


def _clipping(place):
    still = place.fit(GradientNormClipping(0.0), optimizer="sgd", learning_rate=0.1)
    assert len(set(still.loss_curve_)) <= N_EPOCHS
    assert still.loss_curve_ != place.fit(optimizer="sgd", learning_rate=0.1).loss_curve_


def _early_stopping(place):
    # Nothing is ever as much better.
    pretrained = {**PHASES, "pretrain_max_iter": 3}
    stopping = EarlyStopping("train_loss", patience=1, threshold=1e9, threshold_mode="abs")
    detector = place.fit(Spy(), stopping, **pretrained)
    phases = [phase for phase in [*BEFORE[place.cls], "training"] for _ in range(2)]
    assert [row["phase"] for row in detector.history_] == phases
    assert detector.n_iter_ == 2
    place.refuse(
        EarlyStopping("train_loss", load_best=True), "early_stopping=True, which", ema_decay=0.9
    )
    if not place.held_out:
        place.refuse(EarlyStopping(), "monitor='train_loss'")
        return
    loading = EarlyStopping(patience=N_EPOCHS + 1, load_best=True, sink=lambda text: None)
    place.fit(loading)


def _timer(place):
    assert all(seconds >= 0 for seconds in place.column("dur", EpochTimer()))


def _print_log(place):
    lines = []
    place.fit(PrintLog(sink=lines.append))
    assert len(lines) == N_EPOCHS + 2
    assert "train_loss" in lines[0] and "phase" in lines[0]
    assert ("valid_loss" in lines[0]) == place.held_out


def _progress_bar(place):
    for how in ("auto", "count"):
        place.fit(ProgressBar(batches_per_epoch=how))


def _input_shape(place):
    place.refuse(InputShapeSetter(), "Leave it out")


# Loggers, with what stands for their record


class Record:
    """Takes every call, and keeps it; cannot be copied."""

    def __init__(self, folder):
        self.calls, self.dir, self.lock = [], str(folder), threading.Lock()
        self.info = types.SimpleNamespace(run_id="run")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))

    def count(self, name):
        return sum(call[0] == name for call in self.calls)

    def values(self, name):
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


def _tensorboard(place):
    record = Record(place.folder)
    place.fit(TensorBoard(record), **PHASES)
    tags = {kwargs["tag"] for _, kwargs in record.values("add_scalar")}
    held_out = {"Loss/valid_loss"} if place.held_out else set()
    assert tags == {"Loss/train_loss", "dur"} | held_out
    assert all(isinstance(kw["scalar_value"], float) for _, kw in record.values("add_scalar"))
    assert record.count("close") == 1


def _mlflow(place):
    record = Record(place.folder)
    logger = MlflowLogger(run=record, client=record, log_on_batch_end=True)
    place.fit(logger, **PHASES)
    logged = [args for args, _ in record.values("log_metric")]
    assert {"train_loss_epoch", "train_loss_batch", "dur_epoch"} <= {args[1] for args in logged}
    assert all(isinstance(args[2], float | int) for args in logged)
    assert record.count("log_artifact") == 4
    assert record.count("set_terminated") == 1
    steps = [kw["step"] for args, kw in record.values("log_metric") if args[1] == "dur_epoch"]
    assert steps == list(range(1, place.n_before + N_EPOCHS + 1))


def _sacred(place):
    record = Record(place.folder)
    place.fit(SacredLogger(record))
    logged = [args for args, _ in record.values("log_scalar")]
    assert {"train_loss", "dur"} <= {args[0] for args in logged}
    assert all(isinstance(args[1], float) for args in logged)


def _wandb(place):
    record = Record(place.folder)
    place.fit(WandbLogger(record, save_model=place.held_out), **PHASES)
    assert record.count("watch") == 1
    assert record.count("log") == place.n_before + N_EPOCHS
    assert ("best_model.pth" in place.names()) == place.held_out
    if not place.held_out:
        place.refuse(WandbLogger(record), "save_model=False")


class NeptuneRun:
    """A tree of series, as Neptune has."""

    def __init__(self, path="", store=None, stops=None):
        self.path, self.store = path, {} if store is None else store
        self.stops = [] if stops is None else stops

    def __getitem__(self, name):
        return NeptuneRun(f"{self.path}/{name}", self.store, self.stops)

    def __setitem__(self, name, value):
        self.store[f"{self.path}/{name}"] = value

    def append(self, value):
        assert not self.stops, "the run was stopped"
        self.store.setdefault(self.path, []).append(value)

    def stop(self):
        self.stops.append(1)


def _neptune(place):
    modules = {name: types.ModuleType(name) for name in ("neptune", "neptune.types")}
    modules["neptune.types"].File = types.SimpleNamespace(from_content=lambda *a, **k: a)
    modules["neptune.handler"] = types.ModuleType("neptune.handler")
    modules["neptune.handler"].Handler = type("Handler", (), {})
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        run = NeptuneRun()
        place.fit(NeptuneLogger(run), **PHASES)
    assert len(run.store["/training/train/epoch/loss"]) == place.n_before + N_EPOCHS
    assert run.store["/training/config/epochs"] == 2
    assert "/training/phase" not in run.store
    assert len(run.stops) == 1


CASES = {
    "BatchScoring": _scoring(BatchScoring),
    "Callback": lambda place: place.fit(Callback()),
    "Checkpoint": _checkpoint,
    "EarlyStopping": _early_stopping,
    "EpochScoring": _scoring(EpochScoring),
    "EpochTimer": _timer,
    "Freezer": _freezer,
    "GradientNormClipping": _clipping,
    "Initializer": _initializer,
    "InputShapeSetter": _input_shape,
    "LRScheduler": _scheduler,
    "LoadInitState": _load_state,
    "MlflowLogger": _mlflow,
    "NeptuneLogger": _neptune,
    "ParamMapper": _mapper,
    "PassthroughScoring": _passthrough,
    "PrintLog": _print_log,
    "ProgressBar": _progress_bar,
    "SacredLogger": _sacred,
    "TensorBoard": _tensorboard,
    "TrainEndCheckpoint": _train_end,
    "Unfreezer": _unfreezer,
    "WandbLogger": _wandb,
    "WarmRestartLR": _warm_restart,
}


@pytest.mark.parametrize("name", skorch.callbacks.__all__)
@pytest.mark.parametrize("held_out", [False, True], ids=["all rows", "held out"])
@pytest.mark.parametrize("cls", [Autoencoder, DAGMM])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_callback_works_or_is_refused(name, cls, held_out, tiny, rows, tmp_path):
    assert name in CASES, f"skorch has a new callback, {name}: look at it and add a case"
    CASES[name](Place(tiny, cls, rows, held_out, tmp_path))


def test_what_leads_out_of_a_fit_is_shared_and_the_rest_is_copied(tmp_path):
    class Own(Callback):
        def __init__(self, value):
            self.value = value
            self.seen = []

    record, file = Record(tmp_path), io.BytesIO()
    checkpoint = Checkpoint(f_params=file)
    mine = [
        ("board", TensorBoard(record)),
        checkpoint,
        LoadInitState(checkpoint),
        Own(threading.Lock()),
        PrintLog(sink=record.values),
        Own([1]),
        EpochTimer,
    ]
    theirs = copy_callbacks(mine)
    assert theirs[0][1] is not mine[0][1] and theirs[0][1].writer is record
    assert theirs[1] is not checkpoint and theirs[1].f_params is file
    assert theirs[2].checkpoint is theirs[1]
    assert theirs[3].value is mine[3].value and theirs[3].seen is not mine[3].seen
    assert theirs[4].sink.__self__ is record
    assert theirs[5].value == [1] and theirs[5].value is not mine[5].value
    assert theirs[6] is EpochTimer


def test_files_that_a_checkpoint_is_given_are_written(tiny, rows):
    file = io.BytesIO()
    others = {"f_optimizer": None, "f_criterion": None, "f_history": None}
    tiny(callbacks=[TrainEndCheckpoint(f_params=file, **others)]).fit(rows)
    assert file.tell() > 0


@pytest.mark.parametrize("wrong", ["print", object(), ("name", 3)])
def test_what_is_no_callback_is_refused_by_name(wrong, tiny, rows):
    with pytest.raises(TypeError, match="no callback of skorch"):
        tiny(callbacks=[wrong]).fit(rows)


def test_bests_are_counted_by_phase(tiny, rows, tmp_path):
    detector = tiny(
        DAGMM,
        pretrain="layerwise",
        pretrain_max_iter=2,
        early_stopping=True,
        callbacks=[Checkpoint(dirname=str(tmp_path))],
    ).fit(rows)
    history = detector.history_
    for i, row in enumerate(history):
        if i == 0 or history[i - 1]["phase"] != row["phase"]:
            assert row["train_loss_best"] and row["valid_loss_best"] and row["event_cp"]
    assert set(LossCurveDisplay.from_estimator(detector, terms=["train_loss"]).curves)


def test_bests_go_on_where_a_fit_was_killed(tiny, rows, tmp_path, monkeypatch):
    class Stop(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 5:
                raise RuntimeError

    monkeypatch.setattr(Autoencoder, "_checkpoint_interval", 0.0)
    params = {"max_iter": 8, "early_stopping": True, "learning_rate": 0.3}
    whole = tiny(**params).fit(rows)
    with pytest.raises(RuntimeError):
        tiny(checkpoint=tmp_path / "fit.pt", callbacks=[Stop()], **params).fit(rows)
    resumed = tiny(checkpoint=tmp_path / "fit.pt", **params).fit(rows)
    for name in ("train_loss_best", "valid_loss_best"):
        assert [row[name] for row in resumed.history_] == [row[name] for row in whole.history_]


def test_frozen_weights_stay_frozen_where_a_fit_was_killed(tiny, rows, tmp_path, monkeypatch):
    class Stop(Callback):
        def on_batch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                raise RuntimeError

    monkeypatch.setattr(Autoencoder, "_checkpoint_interval", 0.0)
    freezer = Freezer("encoder.*")
    whole = tiny(callbacks=[freezer]).fit(rows)
    with pytest.raises(RuntimeError):
        tiny(checkpoint=tmp_path / "fit.pt", callbacks=[freezer, Stop()]).fit(rows)
    resumed = tiny(checkpoint=tmp_path / "fit.pt", callbacks=[freezer]).fit(rows)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))


def test_a_saved_best_is_of_the_weights_that_the_held_out_loss_is_of(tiny, rows, tmp_path):
    params = {"early_stopping": True, "ema_decay": 0.9, "max_iter": 6}
    detector = tiny(callbacks=[Checkpoint(dirname=str(tmp_path))], **params).fit(rows)
    # Early stopping keeps the best average, and so does the file.
    weights = torch.load(tmp_path / "params.pt", weights_only=True)
    torch.testing.assert_close(detector.module_.state_dict(), weights, rtol=0, atol=0)


def test_asking_the_net_in_the_middle_of_an_epoch_changes_nothing(tiny, rows):
    class Ask(Callback):
        def on_batch_begin(self, net, batch, **kwargs):
            net.forward(batch[0])

    params = {"dropout": 0.5, "pretrain": "layerwise", "pretrain_max_iter": 2}
    asked = tiny(DAGMM, callbacks=[Ask()], **params).fit(rows)
    assert asked.loss_curve_ == tiny(DAGMM, **params).fit(rows).loss_curve_


def test_early_stopping_of_skorch_is_no_interrupt(tiny, rows, recwarn):
    stopping = EarlyStopping("train_loss", patience=1, threshold=1e9, threshold_mode="abs")
    detector = tiny(DeepSVDD, pretrain_max_iter=3, callbacks=[stopping]).fit(rows)
    assert {row["phase"] for row in detector.history_} == {"pre-training", "training"}
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]


def test_print_log_prints_if_the_detector_is_verbose(tiny, rows, capsys):
    tiny(callbacks=[PrintLog()]).fit(rows)
    assert capsys.readouterr().out == ""
    tiny(callbacks=[PrintLog()], verbose=1).fit(rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == N_EPOCHS + 2 and "train_loss" in lines[0]


def test_an_audit_goes_on_with_the_callbacks_of_its_detector(rows):
    lines = []
    base = Autoencoder(max_iter=2, callbacks=[PrintLog(sink=lines.append)], random_state=0)
    audit = UAI(base, n_steps=2, random_state=0).fit(rows)
    before = len(lines)
    audit.teach([0, 1], [-1, 1])
    assert before == 4 and len(lines) > before
