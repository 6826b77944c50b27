"""Semantic types of strings: facts of the data, no string in two languages, and supervisors that learn."""

import io
import json
import zipfile

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from benchmark.api import NotAvailable
from benchmark.core.pools import source_parts
from benchmark.core.registry import TASKS
from tasks import semantic_types

COUNTS = {
    "en": [190, 190, 190, 190, 190, 111, 190, 190],
    "de": [190, 190, 37, 190, 190, 155, 190, 160],
    "fr": [190, 190, 190, 190, 190, 155, 190, 190],
    "it": [190, 190, 190, 35, 190, 115, 190, 190],
    "nl": [190, 190, 49, 190, 190, 146, 190, 127],
    "pl": [190, 190, 171, 190, 190, 169, 190, 190],
    "tr": [190, 161, 190, 75, 190, 131, 136, 190],
}


@pytest.fixture(scope="module")
def domains():
    try:
        return semantic_types._domains()
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


def test_facts(domains):
    assert {language: np.bincount(d.labels).tolist() for language, d in domains.items()} == COUNTS
    assert sum(map(sum, COUNTS.values())) == 9533
    for d in domains.values():
        assert len(d.load()) == len(d.labels)
        assert all(text == text.strip() and text[:1].upper() == text[:1] for text in d.load())


def test_no_string_is_in_two_languages_or_twice_in_one(domains):
    keys = [semantic_types.key(text) for d in domains.values() for text in d.load()]
    assert len(set(keys)) == len(keys)
    assert semantic_types.key("São  Tomé") == semantic_types.key("sao-tome") != semantic_types.key("Sao Tomas")


def test_lists_are_read_by_their_keys():
    names = {"female": ["zoë", "a"], "male": ["Max "]}
    person = {"names": names, "surnames": {"male": ["Kowalski"], "female": ["Kowalska"]}, "occupation": ["cook"]}
    address = {"city": ["Łódź"], "street": {"name": ["Main"]}, "country": {"name": ["Polska"]}}
    food = {kind: [kind] for kind in ("dishes", "drinks", "fruits", "spices", "vegetables")}
    files = {"person": person, "address": address, "food": food}
    files["finance"] = {"banks": ["ING"], "company": {"name": ["Orlen"], "type": {"title": ["no"]}}}
    with zipfile.ZipFile(io.BytesIO(), "w") as wheel:
        for name, content in files.items():
            wheel.writestr(f"mimesis/datasets/pl/{name}.json", json.dumps(content))
        found = semantic_types._strings(wheel, "pl")
    assert found == [
        *(("Zoë", "given name"), ("Max", "given name"), ("Kowalski", "surname"), ("Cook", "occupation")),
        *(("Łódź", "city"), ("Main", "street"), ("Polska", "country")),
        *((kind.title(), "food") for kind in food),
        *(("ING", "company"), ("Orlen", "company")),
    ]


@pytest.mark.parametrize("target", semantic_types.TARGETS)
def test_supervisors(target):
    task = TASKS[f"semantic-types-to-{target}"]
    deals = [[s.size for s in task.supervisors(seed)] for seed in range(60)]
    assert len({tuple(sizes) for sizes in deals}) == 6
    assert all(sizes[0] == 1500 and sorted(sizes[1:]) == [200, 500, 1000] for sizes in deals)
    best, *others = task.supervisors(0)
    assert best.domains == task.card.sources == sum((s.domains for s in others), ())
    assert [s.model for s in task.supervisors(1)] == [best.model, *(s.model for s in others)]


def test_the_best_supervisor_is_the_least_sure(domains):
    task = TASKS["semantic-types-to-en"]
    parts = {name: source_parts(domains[name], task.source_share, seed=0) for name in task.card.sources}
    held_out = [domains[name].load()[i] for name, (_, rows) in parts.items() for i in rows]
    truth = np.concatenate([domains[name].labels[rows] for name, (_, rows) in parts.items()])
    accuracies, confidences = [], []
    for supervisor in task.supervisors(0):
        texts = [domains[name].load()[i] for name in supervisor.domains for i in parts[name][0]]
        labels = np.concatenate([domains[name].labels[parts[name][0]] for name in supervisor.domains])
        rows = np.random.default_rng(0).permutation(len(texts))[: supervisor.size]
        model = supervisor.model.fit([texts[i] for i in rows], labels[rows], 8, seed=0)
        answers = model.predict_proba(held_out)
        accuracies.append(balanced_accuracy_score(truth, answers.argmax(1)))
        confidences.append(answers.max(1).mean())
    assert min(accuracies) > 0.18  # chance is 0.125
    assert np.argmax(accuracies) == np.argmin(confidences) == 0
    assert accuracies[0] > 0.4
