"""TF-IDF beside scikit-learn's own: the same bits in the same places."""

import pydoc_data.topics
import re
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from benchmark.supervisors import terms, tfidf
from benchmark.supervisors.terms import Terms, Tfidf
from benchmark.supervisors.tfidf import TfidfBradleyTerry, TfidfClassifier
from support.laws import generators

# words that sort otherwise than they come, differ in case only, are no words, or are not English
WORDS = (
    "the",
    "The",
    "a",
    "zebra",
    "Apple",
    "apple",
    "don't",
    "x1",
    "1x",
    "é",
    "Über",
    "übers",
    "zoo",
    "B2B",
    "_",
    "?!",
)
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@pytest.fixture(autouse=True)
def nothing_counted_yet(monkeypatch):
    monkeypatch.setattr(terms, "_terms", {})


def sklearns(unit="words"):
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert type(found) is type(expected)
    for what in ("data", "indices", "indptr"):
        a, b = getattr(found, what), getattr(expected, what)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), what


@given(st.lists(texts, max_size=8), *[st.lists(texts, min_size=1, max_size=8)] * 2)
def test_it_is_scikit_learns(before, others, train):
    """Whatever was counted before, by another vectorizer."""
    if any(re.search(r"\w\w", text) for text in before):
        Tfidf().fit_transform(before)
    ours, theirs = Tfidf(), sklearns()
    if not any(re.search(r"\w\w", text) for text in train):
        with pytest.raises(ValueError, match="empty vocabulary"):
            ours.fit_transform(train)
        return
    assert_same(ours.fit_transform(train), theirs.fit_transform(train))
    for held_out in (others, train, [*before, *others]):
        assert_same(ours.transform(held_out), theirs.transform(held_out))


@given(*[st.lists(texts.filter(str.strip), min_size=1, max_size=8)] * 2)
def test_characters_are_scikit_learns(train, others):
    ours, theirs = Tfidf("characters"), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    assert_same(ours.fit_transform(train), theirs.fit_transform(train))
    assert_same(ours.transform(others), theirs.transform(others))


def real_texts():
    """Paragraphs of Python's manual."""
    found = [part for topic in pydoc_data.topics.topics.values() for part in topic.split("\n\n")]
    return [text for text in found if re.search(r"\w\w", text)]


@settings(max_examples=3)
@given(generators)
def test_models_of_real_texts_are_those_on_scikit_learns_features(rng):
    written = real_texts()
    train, held_out = ([written[i] for i in rng.choice(len(written), n)] for n in (300, 200))
    assert_same(Tfidf().fit_transform(train), sklearns().fit_transform(train))
    labels = rng.integers(0, 2, 300)

    def probabilities():
        yield TfidfClassifier().fit(train, labels, 2, 0).predict_proba(held_out)
        given = (train[:150], train[150:])
        yield TfidfBradleyTerry().fit(given, labels[:150], 2, 0).predict_proba((held_out[::2], held_out[1::2]))

    ours = list(probabilities())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfidf, "Tfidf", sklearns)
        for found, expected in zip(ours, probabilities(), strict=True):
            assert np.array_equal(found, expected)
            assert np.ptp(found[:, 0]) > 0.1


def test_a_text_is_counted_once(monkeypatch):
    read = []
    monkeypatch.setattr(CountVectorizer, "build_analyzer", lambda self: lambda text: read.append(text) or text.split())
    first, second = Tfidf(), Tfidf()
    first.fit_transform(["one text", "another"])
    second.fit_transform(["another", "a third"])
    first.transform(["a third", "one text"])
    assert read == ["one text", "another", "a third"]


def test_too_many_terms_are_forgotten_but_by_who_uses_them(monkeypatch):
    monkeypatch.setattr(terms, "_MOST", 5)
    first = Tfidf()
    first.fit_transform(["one two three", "four"])
    second, third = Tfidf(), Tfidf()
    assert second._terms is third._terms is not first._terms
    assert_same(first.transform(["four three"]), sklearns().fit(["one two three", "four"]).transform(["four three"]))


def test_threads_count_a_text_once(monkeypatch):
    read = []
    analyze = lambda text: read.append(text) or sleep(0.02) or text.split()  # noqa: E731
    monkeypatch.setattr(CountVectorizer, "build_analyzer", lambda self: analyze)
    counter = Terms()
    with ThreadPoolExecutor(3) as pool:
        counted = list(pool.map(counter.count, [["one text", "another text"]] * 3))
    assert read == ["one text", "another text"]
    assert [numbers.tolist() for numbers, _, _ in counted] == [[0, 1, 2, 1]] * 3
