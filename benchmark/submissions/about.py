"""A submission's README: title, authors, link and description, filled in by whoever submits."""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACEHOLDERS = {"authors": "(names of the authors)", "link": "(address of a paper or of code, or: none)"}
DESCRIPTION = "(What the method does and why it should help, in a few sentences. Then delete these brackets.)"


@dataclass(frozen=True)
class About:
    """What a README says; None for what is missing."""

    title: str | None
    authors: str | None
    link: str | None
    description: str | None

    @property
    def lacking(self) -> list[str]:
        """What is missing, or still what the stub says."""
        stub = {**PLACEHOLDERS, "description": DESCRIPTION}
        return [
            name
            for name in ("title", "authors", "link", "description")
            if getattr(self, name) in (None, stub.get(name))
        ]

    @property
    def bad_link(self) -> bool:
        """Whether the link is anything but a web address or the word `none`."""
        known = self.link is None or "link" in self.lacking or self.link == "none"
        return not known and not re.fullmatch(r"https?://[^\s<>\"'`]+", self.link or "")


def stub(title: str, citation: str) -> str:
    """The README that `w2s submit` writes."""
    return (
        f"# {title}\n\n- authors: {PLACEHOLDERS['authors']}\n- link: {PLACEHOLDERS['link']}\n- citation: {citation}\n\n"
        f"{DESCRIPTION}\n"
    )


def read_about(text: str) -> About:
    """What a README of this form says: a heading, a list of `- name: value`, and the rest."""
    title = re.search(r"^# +(.+?) *$", text, re.M)
    values = {name.lower(): value for name, value in re.findall(r"^- (\w+): *(.+?) *$", text, re.M)}
    rest = re.sub(r"^(# .*|- \w+:.*)$", "", text, flags=re.M).strip()
    return About(title[1] if title else None, values.get("authors"), values.get("link"), rest or None)
