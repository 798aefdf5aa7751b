"""Whether an error says what is wrong."""

import dis
import traceback
from pathlib import Path

import sklearn.utils

import anomaly_estimators

__all__ = ["is_clear", "where"]

_OWN = Path(anomaly_estimators.__file__).parent
_CHECKS = Path(sklearn.utils.__file__).parent
# Words of the shortest message that can say what is wrong, and with what.
_WORDS = 5


def is_clear(error: BaseException) -> bool:
    """Tell whether an error was meant.

    It is, if a ``raise`` statement of this library or of scikit-learn's checks of input has raised it,
    and not a function of numpy, torch or pandas that was called with what it cannot bear; if it is a
    ValueError, a TypeError or an error that this library defines; and if its message has some words.
    """
    frame = list(traceback.walk_tb(error.__traceback__))[-1]
    path = Path(frame[0].f_code.co_filename)
    ours = path.is_relative_to(_OWN)
    meant = isinstance(error, ValueError | TypeError) or type(error).__module__.startswith(
        anomaly_estimators.__name__
    )
    return (
        (ours or path.is_relative_to(_CHECKS) or path.parent == _CHECKS.parent)
        and meant
        and _is_raised(error.__traceback__)
        and len(str(error).split()) >= _WORDS
    )


def where(error: BaseException) -> str:
    """File and line that raised an error, and the last line of this library before it."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in frames]
    own = [p for f, p in zip(frames, places, strict=True) if Path(f.filename).is_relative_to(_OWN)]
    return " < ".join(dict.fromkeys([places[-1], *own[-1:]]))


def _is_raised(tb) -> bool:
    """Whether the innermost frame stands at a ``raise``, and not at a call of compiled code."""
    while tb.tb_next is not None:
        tb = tb.tb_next
    code = tb.tb_frame.f_code
    names = {i.offset: i.opname for i in dis.get_instructions(code)}
    return names[tb.tb_lasti] in ("RAISE_VARARGS", "RERAISE")
