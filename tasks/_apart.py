"""Domains that share examples, made to share none: for supervisors, a text of another domain would be a known one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tasks._shared import text_hash


def kept_apart(examples: Mapping[str, Sequence[tuple[str, str]]], most: int) -> dict[str, list[int]]:
    """Domain -> positions of the examples that stay, no two of which have one key, in one domain or in two.

    What has one key and several classes, in whatever domains, is left out. Of the other examples with one key the first
    of one domain stays. Hashes of keys decide which domain that is, and what stays of a class of more than `most`.

    Args:
        examples: domain -> key and class of each example.
        most: examples of a class in a domain.
    """
    classes: dict[str, set[str]] = defaultdict(set)  # of each key
    first: dict[str, dict[str, int]] = defaultdict(dict)  # key -> domain -> position
    for domain, own in examples.items():
        for i, (key, label) in enumerate(own):
            classes[key].add(label)
            first[key].setdefault(domain, i)
    kept: dict[str, list[int]] = {domain: [] for domain in examples}
    counts: Counter[tuple[str, str]] = Counter()
    for key in sorted(first, key=text_hash):
        domain, label = min(first[key], key=lambda domain: text_hash(f"{domain} {key}")), min(classes[key])
        if len(classes[key]) == 1 and counts[domain, label] < most:
            counts[domain, label] += 1
            kept[domain].append(first[key][domain])
    return kept
