"""Processes that run cases, and that may crash or hang."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context

__all__ = ["Worker"]

# Cases until a process is replaced, so that what one leaves behind cannot pile up.
_CASES = 500
# Seconds that a new process has to load everything.
_START = 300


class Worker:
    """A process that runs one case after the other, and is replaced where it crashes or hangs.

    Parameters
    ----------
    seed : int
        Of the campaign.
    limit : float
        Seconds that a case may take.
    show : bool, default=False
        Whether cases are printed.
    serve : callable, default=None
        What the process runs: ``serve(connection, seed, show)`` answers numbers of cases.
    """

    def __init__(self, seed: int, limit: float, show: bool = False, serve: Callable | None = None):
        self.seed, self.limit, self.show = seed, limit, show
        self.serve = serve or _serve
        self._process = None

    def run(self, number: int) -> dict:
        """Run a case; a crash or a hang is an outcome like others."""
        if self._process is None:
            self._start()
        started = time.monotonic()
        try:
            self._connection.send(number)
            if not self._connection.poll(self.limit):
                raise TimeoutError
            result = self._connection.recv()
        except (TimeoutError, EOFError, OSError) as error:
            hangs = isinstance(error, TimeoutError)
            self.stop()
            return {
                "outcome": "hang" if hangs else "crash",
                "refused": "",
                "broken": "",
                "message": (
                    f"no end after {self.limit:g} seconds"
                    if hangs
                    else f"the process ended with {self._exit_code}"
                ),
                "warned": "",
                "seconds": f"{time.monotonic() - started:.3f}",
            }
        self._left -= 1
        # A process whose state was changed is no place for other cases.
        if self._left == 0 or "global state" in result["broken"]:
            self.stop()
        return result

    def stop(self) -> None:
        """End the process, and those that it has started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._exit_code = self._process.exitcode
        self._connection.close()
        self._process = None

    def _start(self) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=self.serve, args=(other, self.seed, self.show), daemon=True
        )
        self._process.start()
        other.close()
        if not self._connection.poll(_START):
            self.stop()
            raise RuntimeError("A process for the cases did not start.")
        self._connection.recv()
        self._left = _CASES


def _serve(connection, seed: int, show: bool) -> None:
    """Run the cases whose numbers come, until none comes."""
    os.setsid()
    import torch

    from benchmarks.hostile.trials import load_everything, run

    torch.set_num_threads(1)
    load_everything()
    # Neither end of the pipe outlives the other.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send("ready")
        while True:
            connection.send(run(seed, connection.recv(), show))
