"""The README of a submission."""

from __future__ import annotations

import pytest

from benchmark.submissions.about import DESCRIPTION, read_about, stub

FILLED = """# My method

- authors: A. Nonymous, B. Other
- link: https://example.org/paper?id=1
- citation: unpublished

It does this.

- and: that
"""


def test_the_stub_lacks_all_but_the_title() -> None:
    about = read_about(stub("My method", "unpublished"))
    assert about.title == "My method"
    assert about.lacking == ["authors", "link", "description"]
    assert not about.bad_link
    assert about.description == DESCRIPTION


def test_what_is_filled_in_is_read() -> None:
    about = read_about(FILLED)
    assert about.lacking == []
    assert (about.title, about.authors) == ("My method", "A. Nonymous, B. Other")
    assert about.link == "https://example.org/paper?id=1"
    assert about.description is not None
    assert about.description.startswith("It does this.")
    assert not about.bad_link


def test_an_empty_one_lacks_everything() -> None:
    assert read_about("").lacking == ["title", "authors", "link", "description"]


@pytest.mark.parametrize(
    ("link", "bad"),
    [
        ("none", False),
        ("http://example.org", False),
        ("javascript:alert(1)", True),
        ("https://example.org/<script>", True),
        ('https://example.org/" onclick="x', True),
        ("example.org", True),
        ("file:///etc/passwd", True),
    ],
)
def test_links_are_web_addresses(link: str, bad: bool) -> None:
    assert read_about(FILLED.replace("https://example.org/paper?id=1", link)).bad_link == bad
