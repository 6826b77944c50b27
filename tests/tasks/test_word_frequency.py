"""Words and their frequencies: what is read, and that no word is in two languages."""

import gzip

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.api import NotAvailable, W2SError
from benchmark.core.registry import TASKS
from tasks import word_frequency
from tasks.word_frequency import BIN, LANGUAGES, LEAST_LENGTH, MOST

WORDS = st.sampled_from(["taxi", "haus", "maison", "été", "no", "x1", "casa", "il", "dom", "über"])
LISTS = st.fixed_dictionaries({name: st.dictionaries(WORDS, st.integers(-600, -1)) for name in LANGUAGES})


@pytest.fixture(scope="module")
def domains():
    try:
        return word_frequency._domains()
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


@given(LISTS)
def test_a_word_is_in_one_language(lists):
    chosen = word_frequency.choose(lists)
    kept = [word for words in chosen.values() for word, _ in words]
    assert len(kept) == len(set(kept))
    for language, words in chosen.items():
        assert all(lists[language][word] == frequency for word, frequency in words)
        assert all(word.isalpha() and len(word) >= LEAST_LENGTH for word, _ in words)
        others = {word for name, other in lists.items() if name != language for word in other}
        usable = {word for word in lists[language] if word.isalpha() and len(word) >= LEAST_LENGTH}
        assert usable - others <= {word for word, _ in words}


def test_no_frequency_swamps_the_others():
    many = {f"w{'abcdefghij'[i // 100]}{'abcdefghij'[i // 10 % 10]}{'abcdefghij'[i % 10]}": -510 for i in range(1000)}
    chosen = word_frequency.choose({"en": {**many, "the": -130}, "de": {}})["en"]
    assert len(chosen) == MOST + 1
    assert ("the", -130) in chosen


def test_lists_are_read_as_they_are():
    data = [{"format": "cB", "version": 1}, [], ["the"], [], ["of", "and"]]
    assert word_frequency.read_list(gzip.compress(msgpack.packb(data))) == {"the": -1, "of": -3, "and": -3}
    with pytest.raises(W2SError, match="header"):
        word_frequency.read_list(gzip.compress(msgpack.packb([{"format": "other"}])))


def test_facts(domains):
    for domain in domains.values():
        words = domain.load()
        assert 2_400 < len(words) == len(set(words)) == len(domain.labels)
        assert -6.1 < domain.labels.min() < domain.labels.max() < -1.5
        counts = np.bincount((-100 * domain.labels).round().astype(int) // BIN)
        assert counts.max() <= 1.1 * MOST  # of one bin, which may begin a hundredth sooner
    german = dict(zip(domains["de"].load(), domains["de"].labels, strict=True))
    assert german["diesem"] > -3.5


def test_supervisors_read_two_languages_each():
    task = TASKS["word-frequency-to-fr"]
    for seed in range(10):
        supervisors = task.supervisors(seed)
        assert [len(s.domains) for s in supervisors] == [2, 2, 2]
        assert sorted(s.size for s in supervisors) == sorted(word_frequency.SIZES)
        assert {domain for s in supervisors for domain in s.domains} == set(task.card.sources)
