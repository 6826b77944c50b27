"""Text as Markdown and for terminals: tables, lists, and what must be escaped."""

import re
from collections.abc import Sequence

import tabulate

tabulate.WIDE_CHARS_MODE = False  # or the padding would depend on whether `wcwidth` is installed


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no cell or line breaks."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; cells are Markdown already."""
    return str(tabulate.tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the terminal."""
    return str(tabulate.tabulate(rows, headers, tablefmt="simple", disable_numparse=True))


def listing(items: Sequence[str]) -> str:
    """'a, b and c'; 'none' for nothing."""
    if len(items) < 2:
        return items[0] if items else "none"
    return f"{', '.join(items[:-1])} and {items[-1]}"
