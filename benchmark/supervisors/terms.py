"""TF-IDF of words or of characters. Supervisors and seeds read the same texts again and again: each is counted once."""

import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_MOST = 1_000_000  # terms that a process remembers, some 200 bytes each

Numbers = NDArray[np.int32]
Unit = Literal["words", "characters"]
# what CountVectorizer is told: words and pairs of neighbours, or runs of two to four characters inside words
_ANALYZERS: dict[Unit, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}


class Terms:
    """The terms of all texts that were counted so far, numbered as they came.

    Terms are what scikit-learn's vectorizers find. Threads may share it.
    """

    def __init__(self, unit: Unit = "words") -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self._analyze = CountVectorizer(**_ANALYZERS[unit]).build_analyzer()
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__
        self._texts: dict[str, Numbers] = {}  # (2, n): the terms that are in it, in order, and how often
        self._sorted: list[int] = []
        self._ranks = np.empty(0, np.int32)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._numbers)

    def count(self, texts: Sequence[str]) -> tuple[Numbers, Numbers, Numbers]:
        """The terms in n texts, each once a text, text after text; how often each; and where texts begin, (n + 1,)."""
        with self._lock:
            for text in texts:
                if text not in self._texts:
                    found = Counter(self._analyze(text))
                    terms = [self._numbers[term] for term in found]
                    self._texts[text] = np.array([terms, list(found.values())], np.int32)
            counted = [self._texts[text] for text in texts]
        starts = np.cumsum([0, *(own.shape[1] for own in counted)], dtype=np.int32)
        numbers, counts = np.concatenate(counted, axis=1) if counted else np.empty((2, 0), np.int32)
        return numbers, counts, starts

    def ranks(self) -> Numbers:
        """The place of each term in alphabetical order."""
        with self._lock:
            if len(self._sorted) < len(self._numbers):
                names = list(self._numbers)
                new = range(len(self._sorted), len(names))
                self._sorted = sorted([*self._sorted, *new], key=names.__getitem__)  # quick: most are in order
                self._ranks = np.empty(len(names), np.int32)
                self._ranks[self._sorted] = np.arange(len(names), dtype=np.int32)
            return self._ranks


_terms: dict[Unit, Terms] = {}  # this process's


class Tfidf:
    """What scikit-learn's `TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)` gives, bit for bit: its columns, its
    numbers, and the order of a row's entries, in which models add them up. Or the same of characters, with
    `analyzer="char_wb", ngram_range=(2, 4)`."""

    def __init__(self, unit: Unit = "words") -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        if unit not in _terms or len(_terms[unit]) > _MOST:
            _terms[unit] = Terms(unit)
        self._terms = _terms[unit]
        self._weights = TfidfTransformer(sublinear_tf=True)

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Sparse (n, D) of n texts, whose D terms, in alphabetical order, are the vocabulary from now on.

        Raises:
            ValueError: there are none.
        """
        from scipy.sparse import csr_matrix

        numbers, counts, starts = self._terms.count(texts)
        if not len(numbers):
            raise ValueError("empty vocabulary: the texts have no words of two letters or more")
        first = np.full(len(self._terms), -1)
        first[numbers[::-1]] = np.arange(len(numbers))[::-1]  # of equal places the last one assigned stays
        used = np.flatnonzero(first >= 0)
        self._vocabulary = used[np.argsort(self._terms.ranks()[used])]
        seen = used[np.argsort(first[used])]
        # scikit-learn sorts rows by when terms were first seen, and renames columns afterwards
        shape = (len(texts), len(used))
        X = csr_matrix((counts.astype(np.float64), self._places(seen)[numbers], starts), shape)
        X.sort_indices()
        X.indices = self._places(self._vocabulary)[seen][X.indices]
        return self._weights.fit(X).transform(X, copy=False)

    def transform(self, texts: Sequence[str]) -> Any:
        """Sparse (n, D) of n texts; terms that are not in the vocabulary are left out."""
        from scipy.sparse import csr_matrix

        numbers, counts, starts = self._terms.count(texts)
        columns = self._places(self._vocabulary)[numbers]
        known = columns >= 0
        starts = np.concatenate([[0], np.cumsum(known)])[starts].astype(np.int32)
        shape = (len(texts), len(self._vocabulary))
        X = csr_matrix((counts[known].astype(np.float64), columns[known], starts), shape)
        X.sort_indices()
        return self._weights.transform(X, copy=False)

    def _places(self, chosen: NDArray[np.int64]) -> Numbers:
        """Where each term is among those chosen; -1 where it isn't."""
        places = np.full(len(self._terms), -1, np.int32)
        places[chosen] = np.arange(len(chosen), dtype=np.int32)
        return places
