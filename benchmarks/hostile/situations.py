"""What happens around a fit: threads, forks, kills, and what users do between two calls."""

import contextlib
import os
import random
import select
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from benchmarks.hostile.detectors import known
from benchmarks.hostile.properties import Trial, compare
from benchmarks.hostile.verdicts import is_clear

__all__ = ["AFTER", "around", "before"]

# Seconds that a forked child has to predict a few rows.
_FORK_SECONDS = 10
_FORK_VALUES = 40_000


@contextlib.contextmanager
def around(situation: str) -> Iterator[None]:
    """The state of the process in which a fit takes place."""
    with contextlib.ExitStack() as stack:
        if situation == "float64 as torch's default":
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float64)
        if situation == "no_grad":
            stack.enter_context(torch.no_grad())
        if situation == "inference mode":
            stack.enter_context(torch.inference_mode())
        if situation == "frames as scikit-learn's output":
            stack.enter_context(sklearn.config_context(transform_output="pandas"))
        yield


def before(problem, detector) -> Iterator[str]:
    """A fit that fails before the one that counts: it leaves no trace."""
    if problem.case.situation != "failed fit before" or problem.rows is None:
        return
    broken = np.full(problem.rows.shape, np.nan)
    attributes = dict(vars(detector))
    try:
        detector.fit(broken, problem.y)
    except (ValueError, TypeError):
        if vars(detector).keys() != attributes.keys():
            yield f"left {sorted(vars(detector).keys() - attributes.keys())}"
    else:
        yield "rows with NaN were accepted"


# Each takes a trial and yields what is wrong.


def threads(trial: Trial) -> Iterator[str]:
    """Fits in several threads, beside one that draws from the global generators."""
    if not trial.problem.repeatable or trial.rows is None:
        return
    n = 2 + trial.problem.case.number % 3
    found, errors = [None] * n, []

    def fit(i):
        try:
            detector = trial.problem.detector().fit(trial.problem.X, trial.problem.y)
            found[i] = detector.decision_function(trial.rows)
        except Exception as error:
            errors.append(f"a fit in a thread failed: {type(error).__name__}: {error}")

    state = torch.random.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    expected = torch.Generator().manual_seed(5), np.random.RandomState(5), random.Random(5)
    workers = [threading.Thread(target=fit, args=(i,), daemon=True) for i in range(n)]
    for worker in workers:
        worker.start()
    seen = set()
    while any(worker.is_alive() for worker in workers):
        if not torch.equal(
            torch.rand(3), torch.rand(3, generator=expected[0], dtype=torch.float32)
        ):
            seen.add("torch's generator moved in another thread")
        if np.random.random() != expected[1].random():  # noqa: NPY002
            seen.add("numpy's generator moved in another thread")
        if random.random() != expected[2].random():
            seen.add("Python's generator moved in another thread")
        if torch.get_default_dtype() != torch.float32:
            seen.add("torch's default dtype changed in another thread")
        time.sleep(0.0005)
    for worker in workers:
        worker.join()
    if torch.get_default_dtype() != torch.float32:
        seen.add("torch's default dtype is another after fits in threads")
        torch.set_default_dtype(torch.float32)
    torch.random.set_rng_state(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    random.setstate(state[2])
    yield from sorted(seen)
    yield from errors[:1]
    alone = trial.problem.detector().fit(trial.problem.table(), trial.problem.y)
    expected = alone.decision_function(trial.rows)
    differing = sum(it is not None and not np.array_equal(it, expected) for it in found)
    if differing:
        yield f"{differing} of {n} fits in threads have other scores than one alone"


def fork(trial: Trial) -> Iterator[str]:
    """A forked child scores, after its parent has computed in two threads."""
    if trial.rows is None:
        return
    slow = "embedding_max_iter" in trial.detector.get_params()
    times = 1 if slow else max(1, _FORK_VALUES // trial.rows.size)
    rows = np.tile(trial.rows, (times, 1))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.tanh(torch.zeros(300_000))
        expected = trial.detector.decision_function(rows)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            _answer(write, lambda: trial.detector.decision_function(rows))
        os.close(write)
        answer = _read(read, child)
    finally:
        torch.set_num_threads(n_threads)
    if answer is None:
        yield "a forked child hangs in decision_function"
    elif len(answer) != expected.nbytes:
        yield f"a forked child failed: {answer[:200].decode(errors='replace')}"
    else:
        yield from compare(trial, np.frombuffer(answer)[: len(trial.rows)])


def _answer(write: int, function) -> None:
    """Write what a function returns, and end the child without a trace."""
    try:
        answer = function().astype(np.float64).tobytes()
    except BaseException as error:
        answer = f"{type(error).__name__}: {error}".encode()
    with os.fdopen(write, "wb") as file:
        file.write(answer)
    os._exit(0)


def _read(read: int, child: int) -> bytes | None:
    """What a child has written; None if it did not end in time, and is killed."""
    parts, stop = [], time.monotonic() + _FORK_SECONDS
    try:
        while select.select([read], [], [], max(0.0, stop - time.monotonic()))[0]:
            part = os.read(read, 2**16)
            if not part:
                return b"".join(parts)
            parts.append(part)
        os.kill(child, signal.SIGKILL)
        return None
    finally:
        os.close(read)
        os.waitpid(child, 0)


class Killer(Callback):
    """Kills the process at one of the batches."""

    def __init__(self, batch: int):
        self.batch = batch
        self.seen = 0

    def on_batch_begin(self, net, **kwargs):
        self.seen += 1
        if self.seen >= self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


def kill(trial: Trial) -> Iterator[str]:
    """A fit that is killed goes on from its checkpoint, to the same end."""
    parameters = trial.detector.get_params(deep=False)
    if "checkpoint" not in parameters or not trial.problem.repeatable or trial.rows is None:
        return
    path = trial.problem.folder / "checkpoint"
    longer = known(type(trial.detector), {"max_iter": 6})
    y = trial.problem.y
    child = os.fork()
    if child == 0:
        killer = Killer(2 + trial.problem.case.number % 12)
        detector = trial.problem.detector(**longer, checkpoint=path, callbacks=[killer])
        detector._checkpoint_interval = 0
        with contextlib.suppress(BaseException):
            detector.fit(trial.rows, y)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    left = path.exists()
    resumed = trial.problem.detector(**longer, checkpoint=path).fit(trial.rows, y)
    found = resumed.decision_function(trial.rows)
    expected = trial.problem.detector(**longer).fit(trial.rows, y).decision_function(trial.rows)
    if not np.array_equal(found, expected):
        how = "resumed from its checkpoint" if left else "started anew"
        yield f"a fit that was killed ({status}) and {how} has other scores"
    if path.exists() or any(path.parent.glob("checkpoint*.part")):
        yield "the checkpoint of a complete fit was left"


def cloned(trial: Trial) -> Iterator[str]:
    """A clone is not fitted, and fits to the same."""
    copy = clone(trial.detector)
    try:
        check_is_fitted(copy)
        yield "a clone is fitted"
    except NotFittedError:
        pass
    if not trial.problem.repeatable or trial.problem.case.random_state == "RandomState":
        return
    found = copy.fit(trial.problem.table(), trial.problem.y).decision_function(trial.problem.X)
    if not np.array_equal(found, trial.relative):
        yield "a clone has other scores"


def parameters_set(trial: Trial) -> Iterator[str]:
    """Parameters that are set after a fit are refused by name until the next one, or back again."""
    detector = trial.detector
    new = {
        "hidden_layer_sizes": (9, 3),
        "latent_dim": 2,
        "scaler": None,
        "contamination": 0.5,
        "n_components": 3,
        "bandwidth": 0.5,
        "n_projections": 3,
        "n_draws": 2,
        "label_column": 0,
        "activation": "tanh",
    }
    names = detector.get_params(deep=False)
    # All at once, or one of them.
    chosen = [name for name in new if name in names]
    if trial.problem.case.number % 2:
        chosen = [chosen[trial.problem.case.number // 2 % len(chosen)]]
    changed = [name for name in chosen if names[name] != new[name]]
    detector.set_params(**{name: new[name] for name in chosen})
    try:
        detector.predict(trial.problem.X)
        if changed:
            yield f"set_params({', '.join(changed)}) is ignored"
    except ValueError as error:
        if not any(f"{name}=" in str(error) for name in changed) or "fit again" not in str(error):
            yield f"after set_params({', '.join(changed)}): {error}"
    detector.set_params(**{name: names[name] for name in chosen})
    for text in compare(trial, detector.decision_function(trial.problem.X)):
        yield f"after set_params({', '.join(chosen)}) and back: {text}"


def audit(trial: Trial) -> Iterator[str]:
    """Rounds of an audit: queries come once, and scores stay sound."""
    detector, X = trial.detector, trial.problem.X
    if not hasattr(detector, "teach"):
        return
    for verdict in (-1, 1):
        rows = detector.query(X, 2)
        if not len(rows):
            return
        try:
            detector.teach(rows, np.full(len(rows), verdict))
        except ValueError as error:
            if not is_clear(error):
                yield f"teach: {error}"
            return
        if np.isin(detector.query(X, len(trial.relative)), rows).any():
            yield "a row that was audited is queried again"
    after = Trial(trial.problem, detector, trial.warned)
    if not np.isfinite(after.relative).all():
        yield "scores after an audit are not finite"
    if (after.predicted != after.labels).any():
        yield "predict after an audit is not the sign of decision_function"


AFTER = {
    "threads": threads,
    "fork": fork,
    "kill": kill,
    "clone": cloned,
    "parameters set after the fit": parameters_set,
    "audit": audit,
}
