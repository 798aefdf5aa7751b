"""The page on what can be relied on names tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(
    r"``(tests/[\w/]+\.py)(?:::(\w+))?``", (ROOT / "docs/reliability.rst").read_text()
)


def test_the_page_names_tests():
    assert len(NAMED) > 20


@pytest.mark.parametrize(("file", "name"), NAMED, ids="-".join)
def test_what_a_promise_is_held_by_is_there(file, name):
    text = (ROOT / file).read_text()
    assert f"def {name}(" in text if name else "def test_" in text
