"""Solar cells: facts of the data, and supervisors that learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from benchmark.core.pools import source_parts
from benchmark.core.registry import TASKS
from tasks import solar


@pytest.fixture(scope="module")
def domains():
    task = TASKS["solar-mono-to-poly"]
    return {name: task.domain(name) for name in ("mono", "poly")}


def test_facts(domains):
    assert {name: len(d.labels) for name, d in domains.items()} == {"mono": 1074, "poly": 1550}
    counts = {name: [int(np.sum(d.labels == c)) for c in (-1, 0, 1)] for name, d in domains.items()}
    assert counts == {"mono": [117, 588, 369], "poly": [178, 920, 452]}
    for d in domains.values():
        assert len(np.unique(d.groups)) == len(d.labels)  # no image is there twice


def test_labels_follow_the_experts_probabilities(domains):
    for name, domain in domains.items():
        _, probabilities = solar._cells(name)
        assert set(np.round(probabilities, 2)) == {0.0, 0.33, 0.67, 1.0}
        assert (domain.labels[probabilities > 0.6] == 1).all()
        assert (domain.labels[probabilities == 0] == 0).all()


def test_describing_a_domain_decodes_no_image(monkeypatch):
    monkeypatch.setattr(solar, "_images", lambda technology: pytest.fail("images were decoded"))
    solar._domain.__wrapped__("mono")


def test_images(domains):
    images = domains["mono"].load()
    assert images.shape == (1074, 300, 300)
    assert images.dtype == np.uint8
    assert images is domains["mono"].load()  # decoded once a process
    assert images[0].std() > 0


def test_fingerprints_are_stable_and_differ(domains):
    assert {name: d.fingerprint[:16] for name, d in domains.items()} == {
        "mono": "91a9f7d58563ee04",
        "poly": "a1599e7a7240d196",
    }


def test_supervisors_beat_chance_on_their_own_domain(domains):
    task, domain = TASKS["solar-mono-to-poly"], domains["mono"]
    first, second = source_parts(domain, task.source_share, seed=0)
    assert len(first) == pytest.approx(0.3 * 957, abs=1)
    images = domain.load()
    model = task.supervisors(0)[0].model.fit(images[first], domain.labels[first], 2, seed=0)
    predicted = model.predict_proba(images[second]).argmax(1)
    assert balanced_accuracy_score(domain.labels[second], predicted) > 0.65
