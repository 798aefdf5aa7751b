"""Fits that share the name of a checkpoint, one after the other or side by side."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from skorch.callbacks import Callback

from anomaly_estimators import UAI, AnoDM, Autoencoder, deep
from anomaly_estimators.training import checkpoints
from anomaly_estimators.training.checkpoints import claim_file


class Eager(Autoencoder):
    """Writes its state after every epoch, in other processes too."""

    _checkpoint_interval = 0.0


class Stop(Callback):
    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise RuntimeError("power cut")


class Note(Callback):
    """Note the epochs that are trained, in a list of the class."""

    trained: list = []

    def on_epoch_begin(self, net, **kwargs):
        self.trained.append(len(net.history))


class Meet(Callback):
    """Wait for another fit to have begun, and for it to be about to end."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=60)

    def on_train_begin(self, net, **kwargs):
        self.barrier.wait()

    def on_train_end(self, net, **kwargs):
        self.barrier.wait()


@pytest.fixture(autouse=True)
def _write_every_epoch(monkeypatch):
    Note.trained.clear()
    monkeypatch.setattr(deep.DeepDetector, "_checkpoint_interval", 0.0)


def mean_score(estimator, X, y=None):
    return estimator.score_samples(X).mean()


def search(estimator, rows, **params):
    return GridSearchCV(
        estimator,
        {"learning_rate": [1e-3, 1e-2]},
        scoring=mean_score,
        cv=KFold(2),
        error_score="raise",
        **params,
    ).fit(rows)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_search_scores_with_a_checkpoint_as_without(backend, tiny, rows, tmp_path):
    with joblib.parallel_config(backend):
        searched = search(tiny(Eager, checkpoint=tmp_path / "run.pt"), rows, n_jobs=2)
    scores = searched.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert not list(tmp_path.iterdir())
    if backend == "loky":
        expected = search(tiny(Eager), rows)
        np.testing.assert_array_equal(scores, expected.cv_results_["mean_test_score"])


@pytest.mark.parametrize("random_state", [0, None])
def test_equal_fits_at_the_same_time_have_files_of_their_own(
    random_state, tiny, rows, tmp_path, monkeypatch
):
    written = {}
    write = checkpoints.Checkpointer.write

    def noted(self):
        write(self)
        assert self.path.exists()
        written.setdefault(threading.get_ident(), set()).add(self.path.name)

    monkeypatch.setattr(checkpoints.Checkpointer, "write", noted)
    meet = Meet()

    def fit(_):
        params = {"checkpoint": tmp_path / "run.pt", "random_state": random_state}
        return tiny(callbacks=[meet], **params).fit(rows)

    with ThreadPoolExecutor(2) as pool:
        for detector in pool.map(fit, range(2)):
            assert np.isfinite(detector.score_samples(rows)).all()
    first, second = sorted((names.pop() for names in written.values()), key=len)
    assert not any(written.values())
    assert second == first.replace(".pt", "-1.pt")
    assert not list(tmp_path.iterdir())


def test_a_fit_that_was_killed_beside_an_equal_one_goes_on_too(tiny, rows, tmp_path):
    path = tmp_path / "run.pt"
    fingerprint = _fingerprint(tiny, rows, path)
    with claim_file(path, fingerprint):
        with pytest.raises(RuntimeError):
            tiny(checkpoint=path, callbacks=[Stop()]).fit(rows)
        (state,) = tmp_path.glob("*.pt")
        assert state.name == f"run-{fingerprint}-1.pt"
    resumed = tiny(checkpoint=path, callbacks=[Note()]).fit(rows)
    assert Note.trained == [3, 4]
    np.testing.assert_array_equal(resumed.score_samples(rows), tiny().fit(rows).score_samples(rows))
    assert not list(tmp_path.iterdir())


def _fingerprint(tiny, rows, path):
    with pytest.raises(RuntimeError):
        tiny(checkpoint=path, callbacks=[Stop()]).fit(rows)
    (state,) = path.parent.iterdir()
    state.unlink()
    return state.stem.removeprefix("run-")


def test_a_file_is_taken_while_its_process_lives(tmp_path):
    path = tmp_path / "run.pt"
    script = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]);"
        "lock.acquire(); print('taken', flush=True); time.sleep(60)"
    )
    lock = tmp_path / "run-abc.pt.lock"
    with subprocess.Popen(
        [sys.executable, "-c", script, lock], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "taken\n"
        with claim_file(path, "abc") as file:
            assert file.name == "run-abc-1.pt"
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert lock.exists()
        with claim_file(path, "abc") as file:
            assert file.name == "run-abc.pt"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run.pt", "run", "run.v1.pt", ".run"])
def test_families_of_any_name(name, tmp_path):
    path = tmp_path / name
    with claim_file(path, "abc") as first, claim_file(path, "abc") as second:
        assert first.suffix == second.suffix == path.suffix
        assert len({first, second, path}) == 3
        second.touch()
    with claim_file(path, "abc") as found:
        assert found == second


def test_a_folder_that_cannot_be_written_to_is_named(tiny, rows, tmp_path, monkeypatch):
    def refuse(self, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(checkpoints.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match="could not be written.*read-only.*Name another path"):
        tiny(checkpoint=tmp_path / "run.pt", callbacks=[Note()]).fit(rows)
    assert not Note.trained


def test_an_audit_of_a_detector_with_a_checkpoint(tiny, rows, tmp_path):
    def audit(*callbacks, **params):
        base = tiny(callbacks=list(callbacks), **params)
        detector = UAI(base, n_steps=2, random_state=0).fit(rows)
        return detector.teach([0, 1], [-1, 1])

    path = tmp_path / "run.pt"
    with pytest.raises(RuntimeError):
        audit(Stop(), checkpoint=path)
    resumed = audit(Note(), checkpoint=path)
    # Two epochs of the detector, and one round of the audit.
    assert Note.trained == [3, 4, 1]
    np.testing.assert_array_equal(resumed.score_samples(rows), audit().score_samples(rows))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_anodm_goes_on_and_shares_a_name_in_a_search(tiny, rows, tmp_path):
    params = {"embedding": "passthrough", "max_iter": 4}
    path = tmp_path / "run.pt"
    with pytest.raises(RuntimeError):
        tiny(AnoDM, checkpoint=path, callbacks=[Stop()], **params).fit(rows)
    resumed = tiny(AnoDM, checkpoint=path, callbacks=[Note()], **params).fit(rows)
    assert Note.trained == [3, 4]
    whole = tiny(AnoDM, **params).fit(rows)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))
    found = search(tiny(AnoDM, checkpoint=path, memory=str(tmp_path / "memory"), **params), rows)
    expected = search(tiny(AnoDM, **params), rows)
    for searched, known in zip(
        found.cv_results_.items(), expected.cv_results_.items(), strict=True
    ):
        if searched[0].endswith("test_score"):
            np.testing.assert_array_equal(searched[1], known[1])
    assert [other.name for other in tmp_path.iterdir()] == ["memory"]


def test_an_interrupted_fit_keeps_its_file(tiny, rows, tmp_path):
    class Interrupt(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    path = tmp_path / "run.pt"
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        tiny(checkpoint=path, callbacks=[Interrupt()]).fit(rows)
    assert [file.suffix for file in tmp_path.iterdir()] == [".pt"]
