"""Warns of pages that fetch a script, a style, a font or a picture from elsewhere.

The pages are to be read without a network, and to tell nobody that they are read. Links that a reader
may follow are no matter.
"""

import re
from pathlib import Path

from sphinx.util import logging

_log = logging.getLogger(__name__)

_TAG = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*>")
_ADDRESS = re.compile(r"""\b(?:src|href)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""")
_CSS_ADDRESS = re.compile(r"""(?:@import\s*|url\(\s*)["']?((?:https?:)?//[^"')\s]+)""")


def fetched(page):
    """Return the addresses in other places that a page needs to be shown.

    Examples
    --------
    >>> fetched('<script src="https://a.org/b.js"></script> <a href="https://c.org">c</a>')
    ['https://a.org/b.js']
    >>> fetched('<link rel="stylesheet" href="_static/d.css"><style>@import url(//e.org/f.css)</style>')
    ['//e.org/f.css']
    """
    inside = [address for tag in _TAG.findall(page) for address in _ADDRESS.findall(tag)]
    return inside + _CSS_ADDRESS.findall(page)


def check(app, exception):
    """Read all pages and styles that were built."""
    if exception or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css"):
            for address in fetched(path.read_text(encoding="utf-8")):
                _log.warning("%s fetches %s", path.relative_to(app.outdir), address)


def setup(app):
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "version": "1"}
