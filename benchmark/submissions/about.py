"""A submission's README: title, authors, link and description, filled in by whoever submits."""

import re

PLACEHOLDERS = {
    "title": "",
    "authors": "(names of the authors)",
    "link": "(address of a paper or of code, or: none)",
    "description": "(What the method does and why it should help, in a few sentences. Then delete these brackets.)",
}


def stub(title: str, citation: str) -> str:
    """The README that `w2s submit` writes."""
    authors, link, description = (PLACEHOLDERS[name] for name in ("authors", "link", "description"))
    return f"# {title}\n\n- authors: {authors}\n- link: {link}\n- citation: {citation}\n\n{description}\n"


def read_about(text: str) -> dict[str, str]:
    """What is filled in of title, authors, link and description: a heading, `- name: value`, and the rest."""
    title = re.search(r"^# +(.+?) *$", text, re.M)
    found = {name.lower(): value for name, value in re.findall(r"^- (\w+): *(.+?) *$", text, re.M)}
    found["title"] = title[1] if title else ""
    found["description"] = re.sub(r"^(# .*|- \w+:.*)$", "", text, flags=re.M).strip()
    return {name: found[name] for name, empty in PLACEHOLDERS.items() if found.get(name, "") not in ("", empty)}


def is_link(text: str) -> bool:
    """Whether it is a web address, or the word `none`."""
    return text == "none" or bool(re.fullmatch(r"https?://[^\s<>\"'`]+", text))
