"""Sentiment and preference: facts of the data, and supervisors that learn."""

import numpy as np
import pytest

from benchmark.core.pools import preferred, sample_pairs, source_parts
from benchmark.core.registry import TASKS
from benchmark.supervisors.tfidf import TfidfBradleyTerry, TfidfClassifier
from tasks import _vader

SIZES = {"tweets": 4200, "amazon": 3708, "movies": 10605, "nyt": 5190}
CLEAR = {
    "tweets": (1087, 2345),
    "amazon": (1235, 1750),
    "movies": (1994, 1988),
    "nyt": (1448, 986),
}  # of those that are read


@pytest.mark.parametrize("domain", SIZES)
def test_facts(vader, domain):
    data = vader[domain]
    assert len(data.texts) == len(data.ratings) == len(data.groups) == SIZES[domain]
    assert np.abs(data.ratings).max() < 4
    assert all(isinstance(text, str) and text.strip() for text in data.texts)
    assert not any("\ufeff" in text or "\r" in text or "&amp;" in text for text in data.texts)
    assert sorted(set(data.groups.tolist())) == list(range(data.groups.max() + 1))


def test_first_rows(vader):
    assert vader["tweets"].texts[1] == "Yay. Another good phone interview."
    assert vader["tweets"].ratings[1] == pytest.approx(1.443298969)
    assert vader["amazon"].texts[0] == "troubleshooting ad-2500 and ad-2600 no picture scrolling b/w."


@pytest.mark.parametrize("domain", SIZES)
def test_same_words_are_in_one_group(vader, domain):
    group_of: dict[str, int] = {}
    for text, group in zip(vader[domain].texts, vader[domain].groups.tolist(), strict=True):
        assert group_of.setdefault(_vader._words(text), group) == group


def test_repeats_are_found(vader):
    assert SIZES["tweets"] - (vader["tweets"].groups.max() + 1) in range(150, 200)
    assert SIZES["movies"] - (vader["movies"].groups.max() + 1) == 2


def test_documents_are_in_one_group(vader):
    source = _vader._source_files()
    for domain in ("amazon", "nyt"):
        documents = [line.split("_")[0] for line in source[domain].decode("utf-8").splitlines()]
        group_of: dict[str, int] = {}
        for document, group in zip(documents, vader[domain].groups.tolist(), strict=True):
            assert group_of.setdefault(document, group) == group
        assert vader[domain].groups.max() + 1 <= len(group_of)
    assert vader["nyt"].groups.max() + 1 > 450  # repeats join few documents


@pytest.mark.parametrize("domain", SIZES)
def test_the_default_suite_reads_some(vader, domain):
    """Whole groups, the same rows as they are in the file, and not the file's first."""
    whole, some = vader[domain], _vader.some_rated_texts(domain)
    assert abs(len(some.texts) - min(SIZES[domain], _vader.MOST)) < 0.02 * _vader.MOST
    (kept,) = np.nonzero(np.isin(whole.groups, some.groups))
    assert [whole.texts[i] for i in kept] == some.texts
    assert np.array_equal(whole.ratings[kept], some.ratings)
    assert np.array_equal(whole.groups[kept], some.groups)
    assert kept.max() == SIZES[domain] - 1 or len(kept) < SIZES[domain]
    assert some.fingerprint != whole.fingerprint


@pytest.mark.parametrize("domain", SIZES)
def test_sentiment_labels_are_the_sign_of_clear_ratings(vader, domain):
    task = TASKS["sentiment-to-tweets"] if domain != "tweets" else TASKS["sentiment-to-nyt"]
    given = task.domain(domain)
    assert (np.sum(given.labels == 0), np.sum(given.labels == 1)) == CLEAR[domain]
    ratings = _vader.some_rated_texts(domain).ratings
    assert ((given.labels == -1) == (np.abs(ratings) < 0.5)).all()
    assert (ratings[given.labels == 1] > 0).all()
    assert given.load() == _vader.some_rated_texts(domain).texts


def test_preference_has_ratings_and_shares_texts_with_sentiment(vader):
    preference, sentiment = TASKS["preference-to-nyt"].domain("nyt"), TASKS["sentiment-to-nyt"].domain("nyt")
    assert preference.labels.dtype == np.float64
    assert np.isfinite(preference.labels).all()
    assert preference.fingerprint == sentiment.fingerprint
    assert TASKS["preference-to-nyt"].pair_gap == 1


def test_fingerprints_are_stable_and_differ(vader):
    fingerprints = {domain: data.fingerprint[:16] for domain, data in vader.items()}
    assert fingerprints == {
        "tweets": "563f0bdf5b34d42c",
        "amazon": "a5da8f022acabb1c",
        "movies": "d266f2927fc2c64a",
        "nyt": "034d9a821f5be9a8",
    }


def test_sentiment_supervisors_beat_chance_on_their_own_domain(vader):
    for domain in SIZES:
        given = TASKS["sentiment-to-nyt" if domain != "nyt" else "sentiment-to-tweets"].domain(domain)
        first, second = source_parts(given, 0.6, seed=0)
        texts = given.load()
        model = TfidfClassifier().fit([texts[i] for i in first], given.labels[first], 2, seed=0)
        right = model.predict_proba([texts[i] for i in second]).argmax(1) == given.labels[second]
        recalls = [right[given.labels[second] == c].mean() for c in (0, 1)]
        assert np.mean(recalls) > 0.6, domain


def test_preference_supervisors_beat_chance_on_their_own_domain(vader):
    given = TASKS["preference-to-nyt"].domain("amazon")
    texts, rng = given.load(), np.random.default_rng(0)
    first, second = source_parts(given, 0.6, seed=0)
    train, test = (part[sample_pairs(given.labels[part], 1000, 1.0, rng)] for part in (first, second))
    take = lambda pairs: tuple([texts[i] for i in pairs[:, side]] for side in (0, 1))  # noqa: E731
    model = TfidfBradleyTerry().fit(take(train), preferred(given.labels, train), 2, seed=0)
    probabilities = model.predict_proba(take(test))
    assert (probabilities.argmax(1) == preferred(given.labels, test)).mean() > 0.65
