"""A fit that was killed goes on where it was, and ends in the same model bit by bit."""

import errno
import re
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import DAGMM, Autoencoder, deep
from anomaly_estimators.fingerprint import data_fingerprint
from anomaly_estimators.functional.reconstruction import squared_error
from anomaly_estimators.nn.autoencoder import mlp_autoencoder
from anomaly_estimators.training import checkpoints
from anomaly_estimators.training.checkpoints import describe


class Stop(Callback):
    """Raise an error at the end of an epoch, or on a batch of it."""

    def __init__(self, epoch, error=RuntimeError, on_batch=False):
        self.epoch = epoch
        self.error = error
        self.on_batch = on_batch

    def on_epoch_end(self, net, **kwargs):
        if not self.on_batch and len(net.history) == self.epoch:
            raise self.error("power cut")

    def on_batch_begin(self, net, training, **kwargs):
        if self.on_batch and len(net.history) == self.epoch:
            raise self.error("power cut")


class Count(Callback):
    """Note the epochs that are trained, for the copies of it too."""

    def __init__(self):
        self.trained = []

    def __deepcopy__(self, memo):
        return self

    def on_epoch_begin(self, net, **kwargs):
        self.trained.append(len(net.history))


@pytest.fixture(autouse=True)
def _write_every_epoch(monkeypatch):
    monkeypatch.setattr(deep.DeepDetector, "_checkpoint_interval", 0.0)


def file_of(path):
    """The one file of a family."""
    (file,) = path.parent.glob(f"{path.stem}-*{path.suffix}")
    return file


def assert_equal_models(a, b, X):
    for (name, first), second in zip(
        a.module_.state_dict().items(), b.module_.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second), name
    np.testing.assert_array_equal(a.score_samples(X), b.score_samples(X))
    assert a.offset_ == b.offset_
    assert a.n_iter_ == b.n_iter_
    np.testing.assert_array_equal(a.loss_curve_, b.loss_curve_)
    assert [row["phase"] for row in a.history_] == [row["phase"] for row in b.history_]


CASES = [
    {},
    {"early_stopping": True, "n_iter_no_change": 3, "validation_fraction": 0.3},
    {"early_stopping": True, "n_iter_no_change": 4, "tol": 10.0},  # ends after epoch 5
    {"ema_decay": 0.9},
    {"ema_decay": 0.9, "early_stopping": True},
    {"pretrain": "layerwise", "pretrain_max_iter": 3},
    {"pretrain": "layerwise", "pretrain_max_iter": 3, "ema_decay": 0.9, "early_stopping": True},
    {"lr_schedule": "cosine"},
    {"lr_schedule": "step", "optimizer": "sgd", "weight_decay": 1e-3},
    {"optimizer": "rmsprop"},
    {"batch_size": 7},
    {"random_state": None},
]


@pytest.mark.parametrize("cls", [Autoencoder, DAGMM])
@pytest.mark.parametrize("params", CASES, ids=str)
@pytest.mark.parametrize("epoch", [2, 5])
def test_stopped_fit_ends_as_an_uninterrupted_one(cls, params, epoch, tiny, rows, tmp_path):
    path = tmp_path / "fit.pt"
    params = (
        {"max_iter": 6, "dropout": 0.3, **params} if cls is DAGMM else {"max_iter": 6, **params}
    )
    if params.get("random_state", 0) is None:
        # The seed that the checkpoint holds is the one that counts.
        whole = tiny(cls, checkpoint=path, **{**params, "random_state": 5})
        stopped = tiny(cls, checkpoint=path, **{**params, "random_state": None})
        with pytest.raises(RuntimeError, match="power cut"):
            stopped.set_params(callbacks=[Stop(epoch, on_batch=True)]).fit(rows)
        seed = torch.load(file_of(path), weights_only=True)["seed"]
        whole = tiny(cls, **params).set_params(random_state=FixedSeed(seed)).fit(rows)
    else:
        whole = tiny(cls, **params).fit(rows)
        stopped = tiny(cls, checkpoint=path, callbacks=[Stop(epoch, on_batch=True)], **params)
        with pytest.raises(RuntimeError, match="power cut"):
            stopped.fit(rows)
    assert list(tmp_path.iterdir()) == [file_of(path)]
    assert not hasattr(stopped, "offset_")
    assert torch.load(file_of(path), weights_only=True)["history"]
    resumed = tiny(cls, checkpoint=path, **params).fit(rows)
    assert_equal_models(resumed, whole, rows)
    assert not list(tmp_path.iterdir()), "a complete fit leaves nothing behind"


class FixedSeed(np.random.RandomState):
    """Gives the seed that it was made with."""

    def __init__(self, seed):
        super().__init__(seed)
        self.fixed = seed

    def randint(self, *args, **kwargs):
        return self.fixed


def test_resumed_fit_does_not_train_the_epochs_behind_again(tiny, rows, tmp_path):
    path = tmp_path / "fit.pt"
    with pytest.raises(RuntimeError):
        tiny(max_iter=8, checkpoint=path, callbacks=[Stop(6, on_batch=True)]).fit(rows)
    count = Count()
    tiny(max_iter=8, checkpoint=path, callbacks=[count]).fit(rows)
    assert count.trained == [6, 7, 8]


def test_fit_can_be_stopped_again_and_again(tiny, rows, tmp_path):
    path = tmp_path / "fit.pt"
    params = {"max_iter": 6, "pretrain": "layerwise", "pretrain_max_iter": 2}
    whole = tiny(DAGMM, **params).fit(rows)
    for epoch in (2, 3, 5, 9, 12):
        with pytest.raises(RuntimeError):
            tiny(DAGMM, checkpoint=path, callbacks=[Stop(epoch, on_batch=True)], **params).fit(rows)
    assert_equal_models(tiny(DAGMM, checkpoint=path, **params).fit(rows), whole, rows)


def test_fit_with_rollbacks_resumes_exactly(tiny, rows, tmp_path, monkeypatch):
    from anomaly_estimators.reconstruction import autoencoder
    from anomaly_estimators.training.pretraining import reconstruction_loss

    path = tmp_path / "fit.pt"
    calls = {"n": 0}

    def loss(outputs, X, y):
        calls["n"] += 1
        spoilt = torch.nan if calls["n"] in (6, 17) else 1.0  # in epochs 2 and 5 of 4 steps
        return spoilt * reconstruction_loss(outputs, X, y)

    monkeypatch.setattr(autoencoder, "reconstruction_loss", loss)
    with pytest.warns(ConvergenceWarning):
        whole = tiny(max_iter=7).fit(rows)
    calls["n"] = 0
    with pytest.warns(ConvergenceWarning), pytest.raises(RuntimeError):
        tiny(max_iter=7, checkpoint=path, callbacks=[Stop(4, on_batch=True)]).fit(rows)
    calls["n"] = 12
    with pytest.warns(ConvergenceWarning):
        resumed = tiny(max_iter=7, checkpoint=path).fit(rows)
    assert_equal_models(resumed, whole, rows)


def test_warm_start_can_be_stopped_and_resumed(tiny, rows, tmp_path):
    path = tmp_path / "fit.pt"
    params = {"max_iter": 5, "warm_start": True, "pretrain": "layerwise", "pretrain_max_iter": 2}
    whole = tiny(**params).fit(rows).fit(rows)
    stopped = tiny(checkpoint=path, **params).fit(rows)
    epochs = len(stopped.history_)
    stopped.set_params(callbacks=[Stop(epochs + 3, on_batch=True)])
    with pytest.raises(RuntimeError):
        stopped.fit(rows)
    file = file_of(path)
    before = file.read_bytes()
    # A cold fit is another one.
    cold = tiny(checkpoint=path, **params).fit(rows)
    np.testing.assert_array_equal(
        cold.score_samples(rows), tiny(**params).fit(rows).score_samples(rows)
    )
    assert file.read_bytes() == before
    stopped.set_params(callbacks=None).fit(rows)
    assert_equal_models(stopped, whole, rows)


def test_batch_callbacks_do_not_spoil_the_checkpoint(tiny, rows, tmp_path):
    class Batches(Callback):
        def on_batch_end(self, net, **kwargs):
            net.history.record_batch("seen", np.float32(1))

        def on_epoch_end(self, net, **kwargs):
            net.history.record("own", np.float64(2.5))
            net.history.record("tensor", torch.ones(1))

    path = tmp_path / "fit.pt"
    whole = tiny(callbacks=[Batches()]).fit(rows)
    with pytest.raises(RuntimeError):
        tiny(checkpoint=path, callbacks=[Batches(), Stop(3, on_batch=True)]).fit(rows)
    resumed = tiny(checkpoint=path, callbacks=[Batches()]).fit(rows)
    assert_equal_models(resumed, whole, rows)
    assert [row["own"] for row in resumed.history_] == [2.5] * 4


def test_killed_process_leaves_a_checkpoint_to_go_on_from(tiny, rows, tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np
        from skorch.callbacks import Callback
        from anomaly_estimators import DAGMM
        from anomaly_estimators.functional.reconstruction import squared_error

        class Kill(Callback):
            def on_batch_begin(self, net, training, **kwargs):
                if len(net.history) == 5:
                    os.kill(os.getpid(), signal.SIGKILL)

        DAGMM._checkpoint_interval = 0.0
        DAGMM(
            hidden_layer_sizes=(4,), latent_dim=1, n_components=2, max_iter=4, random_state=0,
            pretrain="end_to_end", pretrain_max_iter=3, device="cpu",
            reconstruction_features=("cosine_similarity", squared_error),
            scaler=__import__("sklearn.preprocessing", fromlist=["x"]).StandardScaler(),
            callbacks=[Kill()], checkpoint=sys.argv[1],
        ).fit(np.load(sys.argv[2]))
        """
    )
    path, data = tmp_path / "fit.pt", tmp_path / "X.npy"
    np.save(data, rows)
    done = subprocess.run(
        [sys.executable, "-c", script, path, data], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    file = file_of(path)
    assert {other.name for other in tmp_path.iterdir()} == {file.name, f"{file.name}.lock", "X.npy"}
    params = {
        "pretrain": "end_to_end",
        "pretrain_max_iter": 3,
        # A function's address is another one in another process.
        "reconstruction_features": ("cosine_similarity", squared_error),
        "scaler": StandardScaler(),
    }
    count = Count()
    resumed = tiny(DAGMM, checkpoint=path, callbacks=[count], **params).fit(rows)
    assert count.trained == [5, 6, 7]
    assert_equal_models(resumed, tiny(DAGMM, **params).fit(rows), rows)
    assert [other.name for other in tmp_path.iterdir()] == ["X.npy"]


@pytest.fixture
def stopped(tiny, rows, tmp_path):
    """File of a checkpoint, written by a fit that was stopped."""
    path = tmp_path / "fit.pt"
    with pytest.raises(RuntimeError):
        tiny(checkpoint=path, callbacks=[Stop(3, on_batch=True)]).fit(rows)
    return file_of(path)


@pytest.fixture
def family(stopped):
    """The name of the family of that file, as the parameter has it."""
    return stopped.parent / "fit.pt"


def assert_untouched(stopped, before, detector, plain, X):
    """A fit had nothing of a file that is not its own, and left it as it was."""
    np.testing.assert_array_equal(detector.score_samples(X), plain.score_samples(X))
    assert stopped.read_bytes() == before
    assert list(stopped.parent.iterdir()) == [stopped]


@pytest.mark.parametrize(
    "change",
    [
        {"max_iter": 9},
        {"learning_rate": 0.5},
        {"latent_dim": 2},
        {"random_state": 1},
        {"scaler": None},
        {"scaler": StandardScaler(with_mean=False)},
        {"lr_schedule": "cosine"},
        {"network": mlp_autoencoder(5, (3,), 1)},
        {"ema_decay": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_parameters_make_another_fit(change, stopped, family, tiny, rows):
    before = stopped.read_bytes()
    detector = tiny(checkpoint=family, **change).fit(rows)
    assert_untouched(stopped, before, detector, tiny(**change).fit(rows), rows)


def test_other_detector_makes_another_fit(stopped, family, tiny, rows):
    before = stopped.read_bytes()
    detector = tiny(DAGMM, checkpoint=family).fit(rows)
    assert_untouched(stopped, before, detector, tiny(DAGMM).fit(rows), rows)


@pytest.mark.parametrize("change", ["value", "row less", "dtype", "order"])
def test_changed_data_make_another_fit(change, stopped, family, tiny, rows):
    changed = rows.copy()
    if change == "value":
        changed[60, 2] += 1e-9
    elif change == "row less":
        changed = changed[:-1]
    elif change == "dtype":
        changed = changed.astype(np.float32)
    else:
        changed = changed[::-1].copy()
    before = stopped.read_bytes()
    detector = tiny(checkpoint=family).fit(changed)
    assert_untouched(stopped, before, detector, tiny().fit(changed), changed)


@pytest.mark.parametrize(
    "params",
    [{"contamination": 0.3}, {"verbose": 0}, {"callbacks": [Callback()]}, {"device": "auto"}],
    ids=lambda params: next(iter(params)),
)
def test_parameters_without_a_part_in_training_may_change(params, stopped, family, tiny, rows):
    count = Count()
    callbacks = [*params.get("callbacks", []), count]
    detector = tiny(checkpoint=family, **{**params, "callbacks": callbacks}).fit(rows)
    assert count.trained == [3, 4]
    whole = tiny().fit(rows)
    np.testing.assert_array_equal(detector.score_samples(rows), whole.score_samples(rows))


def test_network_with_other_weights_makes_another_fit(tiny, rows, tmp_path):
    path = tmp_path / "fit.pt"
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(mlp_autoencoder(5, (3,), 1))
    first, same, other = networks
    with pytest.raises(RuntimeError):
        tiny(checkpoint=path, network=first, callbacks=[Stop(3, on_batch=True)]).fit(rows)
    file = file_of(path)
    before = file.read_bytes()
    detector = tiny(checkpoint=path, network=other).fit(rows)
    assert_untouched(file, before, detector, tiny(network=other).fit(rows), rows)
    count = Count()
    tiny(checkpoint=path, network=same, callbacks=[count]).fit(rows)
    assert count.trained == [3, 4]


def test_generators_in_other_states_make_other_fits(tiny, rows, tmp_path):
    path = tmp_path / "fit.pt"
    first = {"random_state": np.random.RandomState(0), "callbacks": [Stop(3, on_batch=True)]}
    with pytest.raises(RuntimeError):
        tiny(checkpoint=path, **first).fit(rows)
    other, same = Count(), Count()
    for seed, count in ((1, other), (0, same)):
        params = {"random_state": np.random.RandomState(seed), "callbacks": [count]}
        tiny(checkpoint=path, **params).fit(rows)
    assert other.trained == [1, 2, 3, 4] and same.trained == [3, 4]


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", "truncated", "foreign", "pickle", "renamed", "format"]
)
def test_file_that_is_no_checkpoint_is_refused_by_its_name_and_left_alone(
    content, stopped, family, tiny, rows
):
    if content == "truncated":
        stopped.write_bytes(stopped.read_bytes()[:-500])
    elif content == "foreign":
        torch.save({"weights": torch.ones(2)}, stopped)
    elif content == "pickle":
        torch.save({"format": 1, "fingerprint": nn.Linear(1, 1)}, stopped)
    elif content in ("renamed", "format"):
        key, value = ("fingerprint", "0" * 32) if content == "renamed" else ("format", 0)
        torch.save({**torch.load(stopped, weights_only=True), key: value}, stopped)
    else:
        stopped.write_bytes(content)
    before = stopped.read_bytes()
    with pytest.raises(ValueError, match="not a checkpoint that can be read") as caught:
        tiny(checkpoint=family).fit(rows)
    assert str(stopped) in str(caught.value)
    assert stopped.read_bytes() == before
    assert list(stopped.parent.iterdir()) == [stopped]


@pytest.mark.parametrize("where", ["save", "fsync", "replace"])
def test_full_disk_is_reported_and_the_fit_before_stays_whole(
    where, tiny, rows, tmp_path, monkeypatch
):
    path = tmp_path / "fit.pt"
    detector = tiny(checkpoint=path).fit(rows)
    scores = detector.score_samples(rows)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {"save": torch, "fsync": checkpoints.os, "replace": checkpoints.os}[where]
    monkeypatch.setattr(target, where, full)
    with pytest.raises(OSError, match="could not be written.*No space left") as caught:
        detector.fit(rows)
    assert re.search(r"fit-[0-9a-f]{32}\.pt ", str(caught.value))
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(detector.score_samples(rows), scores)


def test_full_disk_leaves_the_older_checkpoint(stopped, family, tiny, rows, monkeypatch):
    before = stopped.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(OSError, match="older checkpoint"):
            tiny(checkpoint=family).fit(rows)
    assert stopped.read_bytes() == before
    np.testing.assert_array_equal(
        tiny(checkpoint=family).fit(rows).score_samples(rows), tiny().fit(rows).score_samples(rows)
    )


def test_missing_folder_is_refused_before_any_work(tiny, rows, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        tiny(checkpoint=tmp_path / "missing" / "fit.pt").fit(rows)


def test_checkpoints_are_written_in_intervals(tiny, rows, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(checkpoints.Checkpointer, "write", lambda self: written.append(1))
    monkeypatch.setattr(deep.DeepDetector, "_checkpoint_interval", 3600.0)
    tiny(checkpoint=tmp_path / "fit.pt").fit(rows)
    assert not written
    monkeypatch.setattr(deep.DeepDetector, "_checkpoint_interval", 0.0)
    tiny(checkpoint=tmp_path / "fit.pt").fit(rows)
    assert len(written) == 4


def test_fingerprint_reads_labels_shape_and_type():
    X = np.arange(12.0).reshape(4, 3)
    y = np.array([1, 0, -1, 0], dtype=np.int8)
    prints = {
        data_fingerprint(X, None, ""),
        data_fingerprint(X, y, ""),
        data_fingerprint(X, -y, ""),
        data_fingerprint(X, y, "other"),
        data_fingerprint(X.reshape(3, 4), y, ""),
        data_fingerprint(X.astype(np.float32), y, ""),
        data_fingerprint(X + 1e-12, y, ""),
    }
    assert len(prints) == 7
    assert data_fingerprint(X, y, "") == data_fingerprint(np.asfortranarray(X), y, "")


def test_description_has_no_address():
    values = {
        "function": squared_error,
        "lambda": lambda x: x,
        "network": nn.Linear(2, 2),
        "object": object(),
        "scaler": StandardScaler(),
        "nested": [(squared_error, object)],
        "state": np.random.RandomState(0),
    }
    assert " at 0x" not in describe(values)
