"""The session file: an audit that survives its process, one line of JSON an event."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anomaly_estimators.active.ledger import Ledger

try:
    import fcntl
except ImportError:  # not on Windows, where two writers are not told apart
    fcntl = None

__all__ = ["Session", "SessionFile", "describe_table", "open_session", "read_session"]

_FORMAT = "anomaly_estimators.audit"
_VERSION = 1


def describe_table(n_rows: int, fingerprint: str, labels: str | None) -> dict:
    """Header of a session file.

    Parameters
    ----------
    n_rows : int
    fingerprint : str
        Of the table.
    labels : str or None
        Fingerprint of what was known before the audit; ``None`` if nothing was.

    Returns
    -------
    dict
    """
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "n_rows": n_rows,
        "fingerprint": fingerprint,
        "labels": labels,
    }


class Session:
    """An audit that is kept in memory.

    Parameters
    ----------
    ledger : Ledger

    Attributes
    ----------
    ledger : Ledger
        What was asked and answered.
    path : pathlib.Path or None
        The file that keeps all of it.
    """

    path: Path | None = None

    def __init__(self, ledger: Ledger):
        self.ledger = ledger

    def append(self, *records: dict) -> None:
        """Take in records.

        Raises
        ------
        ValueError
            If a record does not go together with those before.
        """
        for record in records:
            self.ledger.add(record)


class SessionFile(Session):
    """An audit that is kept in a file, which is open for more records."""

    def __init__(self, ledger: Ledger, path: Path, file):
        super().__init__(ledger)
        self.path = path
        self._file = file

    def append(self, *records: dict) -> None:
        """Take in records; when the call returns, they are on the disk.

        Raises
        ------
        ValueError
            If a record does not go together with those before. Nothing is written then.
        OSError
            If they cannot be written. They are in the ledger all the same.
        """
        super().append(*records)
        path, self.path = self.path, None
        _write(self._file, b"".join(map(_line, records)), path)
        self.path = path


def read_session(path: str | os.PathLike) -> Ledger:
    """Read a session file.

    Raises
    ------
    ValueError
        If the file is not one, or is damaged.
    """
    path = Path(path)
    data = path.read_bytes()
    if not data:
        raise _stranger(path)
    return _parse(path, data)[1]


@contextmanager
def open_session(
    path: str | os.PathLike, header: dict | None = None, *, new: bool = False
) -> Iterator[SessionFile]:
    """Open a session file for this process alone, and make it if there is none.

    Parameters
    ----------
    path : str or path-like
    header : dict, default=None
        What :func:`describe_table` has made of the table; ``None`` takes any, and makes no file.
    new : bool, default=False
        Whether the file must not hold a session yet.

    Yields
    ------
    SessionFile
        A file that was made here, and into which no verdict has come when the block fails, is
        deleted again.

    Raises
    ------
    ValueError
        If the file is no session file, is damaged or belongs to another table. It is untouched then.
    BlockingIOError
        If another search has it open.
    """
    path = Path(path)
    file, made = _open(path, make=header is not None)
    with file:
        _lock(file, path)
        data = file.read()
        if header is not None and _line(header).startswith(data):
            # Nothing but a header, if as much: its writer was stopped at once.
            file.seek(0)
            _write(file, _line(header), path)
            ledger = Ledger(header["n_rows"])
        else:
            found, ledger, size = _parse(path, data)
            if header is not None:
                _compare(path, found, header)
            if new:
                raise ValueError(
                    f"{path} holds a session already, and a history was passed beside it: leave out the "
                    "history to go on with the file, or name another path."
                )
            file.truncate(size)
            file.seek(size)
            if not data[:size].endswith(b"\n"):
                file.write(b"\n")
        try:
            yield SessionFile(ledger, path, file)
        except BaseException:
            if made and not len(ledger):
                with suppress(OSError):
                    path.unlink()
            raise


def _open(path: Path, make: bool) -> tuple:
    """Open for reading and writing, without a buffer; tell whether the file was made."""
    try:
        return open(path, "r+b", buffering=0), False
    except FileNotFoundError:
        if not make:
            raise
    return open(path, "x+b", buffering=0), True


def _lock(file, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(
            error.errno,
            f"{path} is in use by another search: wait until that has ended, or name another path",
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise


def _line(record: dict) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _write(file, data: bytes, path: Path) -> None:
    try:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} could not be written ({error.strerror or error}). What it held before is untouched",
        ) from error


def _parse(path: Path, data: bytes) -> tuple[dict, Ledger, int]:
    """Return the header, the ledger, and how many bytes are sound."""
    size = len(data)
    *lines, tail = data.split(b"\n")
    if tail:
        # Half an object is never an object, so a last line that can be read is whole.
        if _loaded(tail) is None:
            size -= len(tail)
        else:
            lines.append(tail)
    header = _loaded(lines[0]) if lines else None
    if header is None or header.get("format") != _FORMAT:
        raise _stranger(path)
    if header.get("version") != _VERSION:
        raise ValueError(
            f"{path} has version {header.get('version')!r:.40} of the format, and this version of the "
            f"library reads only version {_VERSION}."
        )
    if type(header.get("n_rows")) is not int:
        raise _damaged(path, 1, "the header is incomplete")
    ledger = Ledger(header["n_rows"])
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        record = _loaded(line)
        if record is None:
            raise _damaged(path, number, "it cannot be read")
        try:
            ledger.add(record)
        except ValueError as error:
            raise _damaged(path, number, str(error)) from None
    return header, ledger, size


def _loaded(line: bytes) -> dict | None:
    """Return the object in a line; ``None`` if there is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _compare(path: Path, found: dict, expected: dict) -> None:
    if found["n_rows"] != expected["n_rows"]:
        difference = f"one of {found['n_rows']} rows, and X has {expected['n_rows']}"
    elif found.get("fingerprint") != expected["fingerprint"]:
        difference = "one with other values, another order of the rows or another dtype"
    elif found.get("labels") != expected["labels"]:
        raise ValueError(
            f"The session in {path} began with other labels y. Pass those it began with (the verdicts "
            "since then are in the file), or name another path."
        )
    else:
        return
    raise ValueError(
        f"The session in {path} belongs to another table: {difference}. Pass the table it began with, "
        "or name another path."
    )


def _stranger(path: Path) -> ValueError:
    return ValueError(
        f"{path} is not a session file of active_search: name another path, or delete the file."
    )


def _damaged(path: Path, number: int, reason: str) -> ValueError:
    return ValueError(
        f"The session file {path} is damaged in line {number}: {reason}. Restore it from a copy; or, to "
        "keep what comes before, delete this line and all after it."
    )
