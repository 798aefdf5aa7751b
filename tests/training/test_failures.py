"""A fit that cannot be, or that is interrupted, leaves an estimator that can be used."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from anomaly_estimators import DAGMM, Autoencoder, DeepSVDD
from anomaly_estimators.training.devices import resolve_device

NAN, INF = np.full((20, 5), np.nan), np.full((20, 5), np.inf)


class Raise(Callback):
    """Raise an error at one event of one epoch."""

    def __init__(self, event, epoch, error):
        self.epoch = epoch
        self.error = error

        def at(net, **kwargs):
            if len(net.history) == epoch:
                raise error

        setattr(self, event, at)


class RaiseInBatch(Callback):
    def __init__(self, epoch, error, training=True):
        self.epoch = epoch
        self.error = error
        self.training = training

    def on_batch_end(self, net, training, **kwargs):
        if len(net.history) == self.epoch and training == self.training:
            raise self.error


def callbacks_at(event, epoch, error):
    if event == "on_batch_end":
        return [RaiseInBatch(epoch, error)]
    if event == "validation":
        return [RaiseInBatch(epoch, error, training=False)]
    return [Raise(event, epoch, error)]


@pytest.mark.parametrize("cls", [Autoencoder, DAGMM, DeepSVDD])
@pytest.mark.parametrize("event", ["on_epoch_begin", "on_epoch_end", "on_batch_end", "validation"])
@pytest.mark.parametrize("epoch", [1, 3, 6])
@pytest.mark.parametrize(
    "params", [{}, {"ema_decay": 0.9}, {"pretrain": "layerwise", "pretrain_max_iter": 2}], ids=str
)
def test_interrupt_by_the_keyboard_leaves_a_usable_estimator(
    cls, event, epoch, params, tiny, rows, capfd
):
    detector = tiny(
        cls,
        max_iter=9,
        early_stopping=event == "validation",
        callbacks=callbacks_at(event, epoch, KeyboardInterrupt()),
        **params,
    )
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        detector.fit(rows)
    assert len(detector.history_) in (epoch - 1, epoch)
    assert all("train_loss" in row for row in detector.history_)
    scores = detector.score_samples(rows)
    assert np.isfinite(scores).all() and len(np.unique(scores)) > 1
    assert (detector.predict(rows) == -1).sum() == 12
    assert capfd.readouterr().out == ""


def test_interrupted_fit_keeps_its_checkpoint_and_goes_on(tiny, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(Autoencoder, "_checkpoint_interval", 0.0)
    path = tmp_path / "fit.pt"
    stopped = tiny(checkpoint=path, max_iter=6, callbacks=[RaiseInBatch(4, KeyboardInterrupt())])
    with pytest.warns(ConvergenceWarning):
        stopped.fit(rows)
    assert list(tmp_path.iterdir())
    resumed = tiny(checkpoint=path, max_iter=6).fit(rows)
    whole = tiny(max_iter=6).fit(rows)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))


IMPOSSIBLE = [
    pytest.param({}, NAN, "NaN", id="nan"),
    pytest.param({}, INF, "infinity", id="inf"),
    pytest.param({}, np.ones((1, 5)), "minimum of 2", id="one row"),
    pytest.param({}, np.ones((0, 5)), "0 sample", id="no row"),
    pytest.param({}, np.ones((20, 0)), "0 feature", id="no feature"),
    pytest.param({}, np.ones(20), "2D", id="one dimension"),
    pytest.param({}, np.array([["a", "b"], ["c", "d"]]), "convert", id="text"),
    pytest.param({"max_iter": 0}, None, "max_iter", id="max_iter"),
    pytest.param({"learning_rate": -1.0}, None, "learning_rate", id="learning_rate"),
    pytest.param({"contamination": 0.6}, None, "contamination", id="contamination"),
    pytest.param({"contamination": 0.0}, None, "contamination", id="contamination 0"),
    pytest.param({"hidden_layer_sizes": (0,)}, None, "hidden_layer_sizes", id="hidden 0"),
    pytest.param({"hidden_layer_sizes": (1.5,)}, None, "hidden_layer_sizes", id="hidden 1.5"),
    pytest.param({"hidden_layer_sizes": ("a",)}, None, "hidden_layer_sizes", id="hidden a"),
    pytest.param({"latent_dim": 0}, None, "latent_dim", id="latent_dim"),
    pytest.param({"activation": "no"}, None, "activation", id="activation"),
    pytest.param({"optimizer": "no"}, None, "optimizer", id="optimizer"),
    pytest.param({"lr_schedule": "no"}, None, "lr_schedule", id="lr_schedule"),
    pytest.param({"batch_size": 0}, None, "batch_size", id="batch_size"),
    pytest.param({"ema_decay": 1.0}, None, "ema_decay", id="ema_decay"),
    pytest.param({"scaler": "no"}, None, "scaler", id="scaler"),
    pytest.param({"scaler": PCA(2)}, None, "keeps their number", id="scaler width"),
    pytest.param({"device": "no"}, None, "not known", id="device"),
    pytest.param({"device": "cuda:99"}, None, "not there", id="device index"),
    pytest.param({"device": "meta"}, None, "not known", id="device meta"),
    pytest.param({"pretrain": "no"}, None, "pretrain", id="pretrain"),
    pytest.param({"callbacks": "no"}, None, "callbacks", id="callbacks"),
    pytest.param({"network": "no"}, None, "network", id="network"),
]
ONLY_DAGMM = [
    pytest.param({"n_components": 0}, None, "n_components", id="n_components"),
    pytest.param({"lambda1": -1}, None, "lambda1", id="lambda1"),
    pytest.param({"objective": "no"}, None, "objective", id="objective"),
    pytest.param({"dropout": 1.0}, None, "dropout", id="dropout"),
    pytest.param({"reconstruction_features": ("no",)}, None, "no", id="features"),
    pytest.param({"estimation_layer_sizes": (-1,)}, None, "estimation_layer", id="estimation"),
    pytest.param({"freeze_codes": True}, None, "never trained", id="freeze_codes"),
]


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    ("cls", "params", "X", "message"),
    [
        pytest.param(cls, *case.values, id=f"{cls.__name__}-{case.id}")
        for cls, cases in ((Autoencoder, IMPOSSIBLE), (DAGMM, [*IMPOSSIBLE, *ONLY_DAGMM]))
        for case in cases
    ],
)
def test_impossible_fit_is_refused_and_the_fit_before_stays(
    fitted, cls, params, X, message, tiny, rows, monkeypatch
):
    detector = tiny(cls, max_iter=1)
    if fitted:
        detector.fit(rows)
        scores, offset = detector.score_samples(rows), detector.offset_
    attributes = {k for k in vars(detector) if k.endswith("_")}

    def no_work(*args, **kwargs):
        raise AssertionError("the training began")

    monkeypatch.setattr("anomaly_estimators.deep.run_phases", no_work)
    detector.set_params(**params)
    with pytest.raises(ValueError, match=message):
        detector.fit(rows if X is None else X)
    assert {k for k in vars(detector) if k.endswith("_")} == attributes
    if fitted:
        before = tiny(cls, max_iter=1)
        detector.set_params(**{name: getattr(before, name) for name in params})
        np.testing.assert_array_equal(detector.score_samples(rows), scores)
        assert detector.offset_ == offset


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_absent_gpu_is_named():
    with pytest.raises(ValueError, match="sees 0 CUDA devices"):
        resolve_device("cuda")
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("method", ["score_samples", "predict", "decision_function", "transform"])
def test_scoring_refuses_what_it_cannot_score(method, tiny, rows):
    detector = tiny(max_iter=1).fit(rows)
    call = getattr(detector, method)
    for X, message in [
        (NAN, "NaN"),
        (INF, "infinity"),
        (rows[:, :4], "4 features"),
        (np.ones((0, 5)), "0 sample"),
        (rows[0], "2D"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(X)


@pytest.mark.parametrize("warm", [False, True])
def test_error_in_the_middle_leaves_the_fit_before(warm, tiny, rows):
    detector = tiny(warm_start=warm).fit(rows)
    scores, history = detector.score_samples(rows), list(detector.history_)
    detector.set_params(callbacks=[Raise("on_epoch_end", len(history) + 2 if warm else 2, OSError)])
    with pytest.raises(OSError):
        detector.fit(2.0 * rows + 5.0)
    np.testing.assert_array_equal(detector.score_samples(rows), scores)
    assert detector.history_ == history


def test_warm_start_goes_on_from_the_weights(tiny, rows):
    detector = tiny(warm_start=True, max_iter=5).fit(rows)
    first = detector.loss_curve_
    detector.fit(rows)
    assert detector.loss_curve_[:5] == first
    assert detector.n_iter_ == 10
    assert detector.loss_curve_[5] < first[0]
    # Without a warm start the second fit is the first one again.
    detector.set_params(warm_start=False).fit(rows)
    assert detector.loss_curve_ == first


def test_warm_start_keeps_the_scaling_and_leaves_pretraining_out(tiny, rows):
    detector = tiny(warm_start=True, pretrain="layerwise", pretrain_max_iter=2, max_iter=1)
    detector.fit(rows)
    mean = detector.scaler_.mean_.copy()
    before = len(detector.history_)
    detector.fit(rows + 100.0)
    np.testing.assert_array_equal(detector.scaler_.mean_, mean)
    assert [row["phase"] for row in detector.history_[before:]] == ["training"]


def test_warm_start_refuses_another_width(tiny, rows):
    detector = tiny(warm_start=True, max_iter=1).fit(rows)
    scores = detector.score_samples(rows)
    with pytest.raises(ValueError, match="4 features"):
        detector.fit(rows[:, :4])
    np.testing.assert_array_equal(detector.score_samples(rows), scores)
