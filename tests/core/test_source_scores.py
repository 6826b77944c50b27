"""How often supervisors are right on their sources, against counting; and what a method that uses them costs others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmark.base.errors import W2SError
from benchmark.core import problems
from benchmark.core.data import Domain, Pool, Recipe
from benchmark.core.guard import SomeoneWrote, Wrote
from benchmark.core.losses import CrossEntropy, cross_entropy
from benchmark.core.method import Batch, Method, Supervision
from benchmark.core.pools import draw_pool
from benchmark.core.problems import build_problem
from benchmark.core.recording import Tape
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.source_scores import source_scores
from benchmark.core.stress_variants import stress_variants
from benchmark.core.task import Supervisor
from benchmark.core.training import TrainingData, train
from benchmark.running.unit import execute
from benchmark.store.cache import Cache
from benchmark.students.streamed import Streamed
from support.laws import generators
from support.made_up import Blobs, Centroids
from support.scribbler import HOW
from support.tiny import Models, opinions, soft_labels
from support.trained import Ensemble, make_data
from support.units import setup_of, unit_of

RECIPE = Recipe(epochs=1, batch_size=32)


@given(st.lists(st.integers(3, 9), min_size=1, max_size=4), st.sampled_from(("plain", "given", "made")), generators)
def test_scores_are_shares_of_the_right_answers_on_own_domains(
    sizes: list[int], pairs: str, rng: np.random.Generator
) -> None:
    """Inputs of domains one after the other; pairs are given (two inputs an example) or made (two inputs of any)."""
    names = [f"d{i}" for i in range(len(sizes))]
    domains = {
        name: Domain(list, np.zeros(size, int), np.zeros(size, int), name, paired=pairs == "given")
        for name, size in zip(names, sizes, strict=True)
    }
    origin = rng.integers(len(sizes), size=30)
    rows = [int(rng.integers(sizes[d])) for d in origin]
    before = [sum(sizes[:d]) * (2 if pairs == "given" else 1) for d in origin]
    if pairs == "given":
        examples = np.array([[b + 2 * row, b + 2 * row + 1] for b, row in zip(before, rows, strict=True)])
    elif pairs == "made":
        others = [int(rng.integers(sizes[d])) for d in origin]
        examples = np.array([[b + row, b + o] for b, row, o in zip(before, rows, others, strict=True)])
    else:
        examples = np.array(before) + rows
    labels, said = rng.integers(2, size=30), rng.dirichlet((1, 1), size=(30, 3)).astype(np.float32)
    learned = [("d0",), tuple(names), ("elsewhere",)]
    task: Any = SimpleNamespace(supervisors=lambda seed: [SimpleNamespace(domains=own) for own in learned])
    pool = Pool({"val": examples}, {"val": labels}, {"val": labels}, tuple(names))
    for m, found in enumerate(source_scores(task, domains, pool, said, 0)):
        asked = [n for n in range(30) if names[origin[n]] in learned[m]] or list(range(30))
        assert found == np.float32(sum(said[n, m].argmax() == labels[n] for n in asked) / len(asked))


def by_hand(task: Blobs, seed: int, cache: Cache) -> list[float]:
    """From the in-distribution problem: inputs of `left` come before those of `right`."""
    problem = build_problem(task, "ind", seed, cache)
    pool = draw_pool(task, {name: task.domain(name) for name in task.DOMAINS}, "ind", seed)
    first = [int(np.ravel(e)[0]) for e in pool.examples["val"]]
    names = ["left" if i < task.domain("left").num_inputs else "right" for i in first]
    scores = []
    for m, supervisor in enumerate(task.supervisors(seed)):
        right = [
            p[m].argmax() == label
            for p, label, name in zip(problem.soft_labels["val"], problem.truth.labels["val"], names, strict=True)
            if name in supervisor.domains
        ]
        scores.append(sum(right) / len(right))
    return scores


@pytest.mark.parametrize("ratings", [False, True])
def test_a_problems_scores_are_those_of_its_in_distribution_pool(ratings: bool, tmp_path: Path) -> None:
    """In both conditions, of honest, broken and corrupted supervisors as they answer in the pool."""
    cache = Cache(tmp_path)
    broken = [Supervisor(Centroids(), ("left",)), Supervisor(Centroids(), ("right",), adversarial=True)]
    sizes, few = (300, 280, 320), slice(None, None, 4)
    tasks = [Blobs(sizes, ratings=ratings), Blobs(sizes, ratings=ratings, supervisors=broken)]
    for task in (*tasks, *list(stress_variants(tasks[0]))[few]):
        expected = by_hand(task, 1, cache)  # type: ignore[arg-type]
        for condition in ("ood", "ind"):
            found = build_problem(task, condition, 1, cache, scored=True)
            assert found.source_scores == pytest.approx(expected, abs=1e-6)
            plain = build_problem(task, condition, 1, cache)
            assert plain.source_scores is None
            for split, p in plain.soft_labels.items():
                np.testing.assert_array_equal(found.soft_labels[split], p)
    honest, rotated = (by_hand(task, 1, cache) for task in tasks)
    assert min(honest) > 0.5 > rotated[1]


class Weighted(Method):
    """The mean of soft labels weighted by source scores, and by what a feature says."""

    name = "weighted"
    title = citation = "test"
    kind = "ensemble"
    uses = ("source_scores",)

    def start(self, supervision: Supervision) -> None:
        assert supervision.source_scores is not None
        self.weights = supervision.source_scores / supervision.source_scores.sum(1, keepdim=True)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, (self.weights[:, None, :, None] * batch.soft_labels).sum(2))

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights}


class SingleWeighted(Weighted):
    name = "single_weighted"
    kind = "single"

    def diagnostics(self) -> dict[str, Tensor]:
        return {"shape": torch.tensor(self.weights.shape[1]).expand(len(self.weights))}


def test_only_a_run_that_uses_scores_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other cache keys, and each supervisor is trained once, for both pools."""
    task = Blobs((300, 280, 320))
    monkeypatch.setitem(TASKS._items, task.name, task)
    for method in (Weighted, SingleWeighted):
        monkeypatch.setitem(METHODS._items, method.name, method)

    def run(folder: str, *names: str) -> tuple[set[str], Any]:
        Centroids.seen.clear()
        result = execute(
            unit_of(task.name, "ood", ((names, (0, 1)),)), setup_of(tmp_path / folder, conditions=("ood",))
        )
        assert not result.failures
        assert len(Centroids.seen) == 3 * 2
        records = {(record.method, record.seed): record for record, _ in result.entries}
        return {path.name for path in (tmp_path / folder / "soft_labels").rglob("*.safetensors")}, records

    without, plain = run("without", "ensemble")
    scored, records = run("with", "ensemble", "weighted", "single_weighted")
    assert len(without) == 3 * 2
    assert without < scored
    assert len(scored) == 2 * len(without)
    for seed in (0, 1):
        expected = by_hand(task, seed, Cache(tmp_path / "with"))
        weights = records["weighted", seed].diagnostics["weights"]
        assert weights == pytest.approx(np.array(expected) / sum(expected), abs=2e-6)
        assert records["single_weighted", seed].diagnostics["shape"] == [1, 1, 1]
        assert records["ensemble", seed].predictions_sha256 == plain["ensemble", seed].predictions_sha256
        assert [records[name, seed].uses for name in ("ensemble", "weighted")] == [(), ("source_scores",)]


class NearestMean(Ensemble):
    """It is told the distance of each example from the mean of all."""

    name = "nearest_mean"
    uses = ("features",)

    def start(self, supervision: Supervision) -> None:
        assert supervision.features is not None
        assert supervision.source_scores is None
        self.features = supervision.features
        flat = self.features.flatten(2)
        self.distance = (flat - flat.mean(1, keepdim=True)).norm(dim=2)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"distance": self.distance[:, 0]}


class SingleNearestMean(NearestMean):
    name = "single_nearest_mean"
    kind = "single"

    def diagnostics(self) -> dict[str, Tensor]:
        return {"distance": self.distance[:, 0].repeat_interleave(3)}


@pytest.mark.parametrize("pairs", [False, True])
def test_features_are_a_copy_of_what_the_student_reads(pairs: bool) -> None:
    data = make_data(K=2, pairs=pairs)

    class Looks(NearestMean):
        def start(self, supervision: Supervision) -> None:
            super().start(supervision)
            assert torch.equal(self.features, data.features["full"])
            assert self.features.data_ptr() != data.features["full"].data_ptr()

    class Without(Ensemble):
        def start(self, supervision: Supervision) -> None:
            assert supervision.features is None

    ensemble, single, _ = train([Looks(), SingleNearestMean(), Without()], data, RECIPE)
    assert torch.equal(single.diagnostics["distance"], ensemble.diagnostics["distance"].repeat_interleave(3))


@pytest.mark.parametrize("how", HOW)
def test_a_write_into_features_is_found_and_reaches_no_student(how: str) -> None:
    class Writes(NearestMean):
        def after_step(self) -> None:
            HOW[how](self.features)

    data = make_data()
    before = data.features["full"].clone()
    line = r"^method 'nearest_mean': writes into supervision\.features"
    with pytest.raises(Wrote, match=line):
        train([Writes()], data, RECIPE)
    with pytest.raises((Wrote, SomeoneWrote)):
        train([Ensemble(), Writes()], data, RECIPE)
    with pytest.raises(Wrote, match=line):
        train([Ensemble(), Writes()], data, RECIPE, closely=True)
    if how not in ("numpy",):
        with pytest.raises(Wrote, match=line):
            train([Ensemble(), Writes()], data, RECIPE, recorder=Tape())
    assert torch.equal(data.features["full"], before)


def test_what_is_not_there_is_none(models: Models) -> None:
    data = make_data()
    on_disk = {name: Streamed(list(x.numpy())) for name, x in data.features.items()}
    assert seen(data) == ("features",)
    scores = torch.full(data.soft_labels.shape[:2], 0.5)
    assert seen(replace(data, features=on_disk, source_scores=scores)) == ("source_scores",)

    pytest.importorskip("peft")
    from benchmark.students.language.student import LanguageModel

    kind = LanguageModel("classifier", 2, models["bert"], 1, rank=2, max_tokens=20)
    texts, labels = opinions(9, 0)
    p = torch.from_numpy(soft_labels(labels, 2, np.random.default_rng(0)))[None]
    of_texts = replace(data, features={"t": [kind.sequences(texts)]}, soft_labels=p, seeds=(4,), student=kind.start)
    assert seen(of_texts) == ()


def seen(data: TrainingData) -> tuple[str, ...]:
    """What a method that uses both features and scores is given, and what is told of it."""
    found: list[str] = []

    class Looking(CrossEntropy):
        kind = "ensemble"
        uses = ("features", "source_scores")

        def start(self, supervision: Supervision) -> None:
            found.extend(name for name in self.uses if getattr(supervision, name) is not None)

    trained, plain = train([Looking(), Ensemble()], data, replace(RECIPE, epochs=1))
    assert trained.uses == tuple(found)
    assert plain.uses == ()
    return tuple(found)


def test_a_task_without_the_pool_fails_the_method_that_insists_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose in-distribution pool can't be dealt."""
    task = Blobs((12, 12, 300))
    monkeypatch.setitem(TASKS._items, task.name, task)
    monkeypatch.setitem(METHODS._items, "weighted", Weighted)
    result = execute(unit_of(task.name, "ood", ((("ensemble", "weighted"), (0,)),)), setup_of(tmp_path))
    (failure,) = result.failures
    assert "method 'weighted'" in failure
    assert [record.method for record, _ in result.entries] == ["ensemble"]


class IfThere(Weighted):
    """Weighted where there are scores; it says where it has none."""

    name = "if_there"

    def start(self, supervision: Supervision) -> None:
        if supervision.source_scores is not None:
            super().start(supervision)
        else:
            self.weights = torch.full_like(supervision.soft_labels[:, 0, :, 0], 1 / 3)


def test_a_record_is_the_same_whichever_seeds_train_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seed 1 the in-distribution pool can't be dealt; so is what records say that the method was given."""
    task = Blobs((300, 280, 320))
    monkeypatch.setitem(TASKS._items, task.name, task)
    monkeypatch.setitem(METHODS._items, "if_there", IfThere)
    real = problems.draw_pool

    def dealt(task: Any, domains: Any, condition: str, seed: int) -> Pool:
        if (condition, seed) == ("ind", 1):
            raise W2SError("too small")
        return real(task, domains, condition, seed)

    monkeypatch.setattr(problems, "draw_pool", dealt)

    def run(seeds: tuple[int, ...]) -> dict[tuple[str, int], Any]:
        result = execute(unit_of(task.name, "ood", ((("ensemble", "if_there"), seeds),)), setup_of(tmp_path))
        assert not result.failures
        return {(record.method, record.seed): record for record, _ in result.entries}

    together = run((0, 1, 2))
    alone = {key: record for seed in (0, 1, 2) for key, record in run((seed,)).items()}
    assert together.keys() == alone.keys()
    for key, record in together.items():
        assert record.diagnostics == alone[key].diagnostics
        assert record.uses == alone[key].uses
    assert [together["if_there", seed].uses for seed in (0, 1, 2)] == [("source_scores",), (), ("source_scores",)]
    assert len({*together["if_there", 0].diagnostics["weights"]}) > 1


def test_scores_that_cannot_be_made_for_another_reason_are_told(tmp_path: Path) -> None:
    """A supervisor that can't label the in-distribution pool."""

    target = Blobs((300, 280, 320)).domain("there").load()[:, 0]

    class Strange(Centroids):
        name = "strange"

        def fit(self, *given: Any) -> Any:
            usual = super().fit(*given)

            def answers(inputs: Any) -> Any:
                return usual.predict_proba(inputs) * (1 if np.isin(inputs[:, 0], target).all() else np.nan)

            return SimpleNamespace(predict_proba=answers)

    task = Blobs((300, 280, 320), supervisors=[Supervisor(Strange(), ("left",))])
    assert build_problem(task, "ood", 0, Cache(tmp_path)).source_scores is None
    with pytest.raises(W2SError, match="soft labels hold NaN"):
        build_problem(task, "ood", 0, Cache(tmp_path), scored=True)
