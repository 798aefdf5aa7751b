"""Docstrings of classes that share parameters: written once, read everywhere."""

import inspect
import re
from itertools import pairwise

__all__ = ["inherit_entries"]

_HEADER = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+) : .*\n(?:(?:[ \t]+.*)?\n)*", re.MULTILINE)


def inherit_entries(cls: type) -> None:
    """Complete the numpydoc sections Parameters and Attributes of a class from its bases.

    A parameter of the constructor, or an attribute, that the class does not describe itself is
    taken from the nearest base that does. Parameters follow the order of the constructor.

    Parameters
    ----------
    cls : type
        Its ``__doc__`` is replaced.
    """
    doc = cls.__dict__.get("__doc__")
    if not doc:
        return
    doc = inspect.cleandoc(doc) + "\n"
    for section in ("Parameters", "Attributes"):
        own = _entries(doc, section)
        inherited: dict[str, str] = {}
        for base in cls.__mro__[1:]:
            for name, text in _entries(
                inspect.cleandoc(base.__doc__ or "") + "\n", section
            ).items():
                inherited.setdefault(name, text)
        if section == "Parameters":
            names = [n for n in inspect.signature(cls).parameters if n in own or n in inherited]
        else:
            names = [*own, *(n for n in inherited if n not in own)]
        doc = _replace(doc, section, "".join(own.get(n) or inherited[n] for n in names))
    cls.__doc__ = doc


def _bounds(doc: str, section: str) -> tuple[int, int] | None:
    headers = list(_HEADER.finditer(doc))
    for header, following in pairwise([*headers, None]):
        if header.group(1) == section:
            return header.end(), following.start() if following else len(doc)
    return None


def _entries(doc: str, section: str) -> dict[str, str]:
    bounds = _bounds(doc, section)
    if bounds is None:
        return {}
    text = doc[slice(*bounds)]
    return {m.group(1): m.group(0).rstrip() + "\n" for m in _ENTRY.finditer(text)}


def _replace(doc: str, section: str, text: str) -> str:
    bounds = _bounds(doc, section)
    if bounds is None and section == "Attributes" and (before := _bounds(doc, "Parameters")):
        header = "Attributes\n----------\n"
        doc = doc[: before[1]] + header + "\n" + doc[before[1] :]
        bounds = (before[1] + len(header),) * 2
    if bounds is None or not text:
        return doc
    return doc[: bounds[0]] + text + "\n" + doc[bounds[1] :]
