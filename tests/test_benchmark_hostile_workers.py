"""Processes for cases that crash or hang. Little is imported here: the processes import it again."""

import os
import signal
import time

import pytest

from benchmarks.hostile.workers import Worker


def serve(connection, seed, show):
    """Answers numbers; 1 hangs, 2 crashes, 3 changes the state of the process."""
    os.setsid()
    connection.send("ready")
    while True:
        number = connection.recv()
        if number == 1:
            time.sleep(60)
        if number == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        broken = "global state" if number == 3 else ""
        connection.send({"outcome": "sound", "broken": broken, "process": os.getpid()})


@pytest.fixture(scope="module")
def worker():
    worker = Worker(seed=0, limit=5.0, serve=serve)
    yield worker
    worker.stop()


def test_a_crash_is_an_outcome_and_the_next_case_runs(worker):
    crashed = worker.run(2)
    assert crashed["outcome"] == "crash" and str(-signal.SIGSEGV) in crashed["message"]
    assert worker.run(0)["outcome"] == "sound"


def test_a_hang_is_an_outcome_and_its_process_is_ended(worker):
    process = worker.run(0)["process"]
    worker.limit = 0.2
    assert worker.run(1)["outcome"] == "hang"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_process_whose_state_was_changed_is_replaced(worker):
    worker.limit = 5.0
    process = worker.run(0)["process"]
    assert worker.run(0)["process"] == process
    assert worker.run(3)["process"] == process
    assert worker.run(0)["process"] != process
