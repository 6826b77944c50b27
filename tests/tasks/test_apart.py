"""Domains that share examples, made to share none."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tasks._apart import kept_apart

EXAMPLES = st.dictionaries(
    st.sampled_from("ABC"), st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), max_size=12)
)


@given(EXAMPLES, st.integers(1, 12))
def test_no_key_is_there_twice_and_what_can_stay_stays(examples, most):
    kept = kept_apart(examples, most)
    assert kept.keys() == examples.keys()
    left = [examples[domain][i] for domain, rows in kept.items() for i in rows]
    assert len({key for key, _ in left}) == len(left)
    classes = {key: {label for own in examples.values() for k, label in own if k == key} for key in "abcdefgh"}
    assert all(classes[key] == {label} for key, label in left)
    counts = Counter((domain, examples[domain][i][1]) for domain, rows in kept.items() for i in rows)
    assert max(counts.values(), default=0) <= most
    for key, labels in classes.items():
        if len(labels) == 1 and key not in {k for k, _ in left}:
            assert any(counts[domain, min(labels)] == most for domain, own in examples.items() if (key, *labels) in own)
    for domain, rows in kept.items():
        assert all(examples[domain].index(examples[domain][i]) == i for i in rows)


@given(EXAMPLES, st.integers(1, 12), st.randoms())
def test_the_order_of_examples_and_domains_decides_nothing(examples, most, random):
    shuffled = {domain: random.sample(own, len(own)) for domain, own in examples.items()}
    shuffled = dict(random.sample(list(shuffled.items()), len(shuffled)))
    found, again = kept_apart(examples, most), kept_apart(shuffled, most)
    for domain, rows in found.items():
        assert [examples[domain][i] for i in rows] == [shuffled[domain][i] for i in again[domain]]


def test_a_shared_key_goes_to_either_domain():
    keys = [(str(i), "x") for i in range(400)]
    sizes = {domain: len(rows) for domain, rows in kept_apart({"A": keys, "B": keys}, 400).items()}
    assert sum(sizes.values()) == 400
    assert min(sizes.values()) > 150
