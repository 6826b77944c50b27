"""The README of a submission."""

from __future__ import annotations

import pytest

from benchmark.submissions.about import is_link, read_about, stub

FILLED = """# My method

- authors: A. Nonymous, B. Other
- link: https://example.org/paper?id=1
- citation: unpublished

It does this.

- and: that
"""


def test_the_stub_lacks_all_but_the_title() -> None:
    assert read_about(stub("My method", "unpublished")) == {"title": "My method"}
    assert read_about("") == {}


def test_what_is_filled_in_is_read() -> None:
    assert read_about(FILLED) == {
        "title": "My method",
        "authors": "A. Nonymous, B. Other",
        "link": "https://example.org/paper?id=1",
        "description": "It does this.",
    }


@pytest.mark.parametrize(
    ("link", "fits"),
    [
        ("none", True),
        ("http://example.org", True),
        ("https://example.org/paper?id=1", True),
        ("javascript:alert(1)", False),
        ("https://example.org/<script>", False),
        ('https://example.org/" onclick="x', False),
        ("example.org", False),
        ("file:///etc/passwd", False),
    ],
)
def test_links_are_web_addresses(link: str, fits: bool) -> None:
    assert is_link(link) == fits
