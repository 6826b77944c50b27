"""Weak language models: they learn, go on after a kill, and what they are is part of every key."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.rounding import assert_close
from support.tiny import ROUNDINGS, Models, opinions, random_texts, save_model

pytest.importorskip("peft")

from benchmark.base.errors import W2SError
from benchmark.core import soft_labels as soft
from benchmark.core.inputs import Prompted
from benchmark.core.task import Supervisor
from benchmark.store.cache import Cache
from benchmark.store.checkpoints import Checkpoints
from benchmark.students.language.student import LanguageStudent
from benchmark.supervisors.language import FineTuned


def learner(model: str, **more: Any) -> FineTuned:
    return FineTuned(
        model, **{"rank": 4, "max_tokens": 16, "learning_rate": 1e-2, "epochs": 14, "batch_size": 8, **more}
    )


def pairs(n: int, seed: int) -> tuple[tuple[list[Prompted], list[Prompted]], Any]:
    """Replies, one with `good` in it, which is preferred, and one with `bad`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    sides: tuple[list[Prompted], list[Prompted]] = [], []
    for text, label in zip(random_texts(n, rng, 4), labels, strict=True):
        for side, word in zip(sides, ("bad", "good") if label else ("good", "bad"), strict=True):
            side.append(Prompted("Human w1 Assistant", f"{text} {word}"))
    return sides, labels.astype(np.int64)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_a_classifier_learns(models: Models, family: str) -> None:
    texts, labels = opinions(60, 0)
    fitted = learner(models[family]).fit(texts, labels, 2, 5)
    fresh, truth = opinions(40, 1)
    p = fitted.predict_proba(fresh)
    assert p.shape == (40, 2)
    assert p.dtype == np.float64
    assert_close(p.sum(-1), np.ones(40), 2)
    assert (p.argmax(-1) == truth).mean() > 0.85


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_reward_model_learns_and_is_antisymmetric(models: Models, family: str) -> None:
    inputs, labels = pairs(60, 0)
    fitted = learner(models[family], objective="reward").fit(inputs, labels, 2, 5)
    (first, second), truth = pairs(40, 1)
    p = fitted.predict_proba((first, second))
    assert (p.argmax(-1) == truth).mean() > 0.85
    assert_close(p.sum(-1), np.ones(40), 2)
    assert_close(fitted.predict_proba((second, first)), p[:, ::-1], ROUNDINGS)


def test_more_than_two_classes(models: Models) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=30)
    texts = [f"{('good', 'bad', 'w9')[k]} {text}" for k, text in zip(labels, random_texts(30, rng, 3), strict=True)]
    p = learner(models["bert"]).fit(texts, labels, 3, 5).predict_proba(texts)
    assert p.shape == (30, 3)
    assert (p.argmax(-1) == labels).mean() > 0.85


def test_the_same_seed_gives_the_same_bits_and_another_one_others(models: Models) -> None:
    texts, labels = opinions(24, 0)
    model = learner(models["bert"], epochs=1)
    a, b, c = (model.fit(texts, labels, 2, seed).predict_proba(texts) for seed in (1, 1, 2))
    assert (a == b).all()
    assert not np.allclose(a, c)


class Killed(BaseException):
    pass


def test_a_killed_training_goes_on(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = opinions(24, 0)
    model = learner(models["bert"], epochs=3)
    expected = model.fit(texts, labels, 2, 1).predict_proba(texts)
    steps = 0
    original = LanguageStudent.logits

    def counted(self: LanguageStudent, index: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 6:  # 3 an epoch: the last of the second
            raise Killed
        return original(self, index)

    monkeypatch.setattr(LanguageStudent, "logits", counted)
    checkpoints = Checkpoints.of(tmp_path, {"a": 1})
    with pytest.raises(Killed):
        model.fit(texts, labels, 2, 1, checkpoints=checkpoints)
    found = model.fit(texts, labels, 2, 1, checkpoints=checkpoints).predict_proba(texts)
    assert (found == expected).all()
    assert steps == 6 + 6
    again = model.fit(texts, labels, 2, 1, checkpoints=checkpoints)
    assert (again.predict_proba(texts) == expected).all()
    assert steps == 6 + 6  # nothing is trained twice


def test_out_of_memory_names_the_supervisor(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: LanguageStudent, index: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(LanguageStudent, "logits", full)
    texts, labels = opinions(24, 0)
    message = "out of GPU memory while supervisor '.*bert' was trained; .* supervisor_tokens=8 or a smaller"
    with pytest.raises(W2SError, match=message):
        learner(models["bert"]).fit(texts, labels, 2, 1)


def test_what_a_supervisor_is_changes_with_its_weights(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "weak", "bert")
    supervisor = Supervisor(FineTuned(str(folder)), ("near",))
    before = soft.recipe(supervisor)
    assert soft.recipe(supervisor) == before
    shutil.rmtree(folder)
    save_model(folder, "bert", seed=1)
    assert soft.recipe(supervisor) != before


@pytest.fixture
def keys(models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The cache keys under which a task's soft labels are asked for."""
    from benchmark.core.pools import draw_pool
    from support.made_up import Blobs

    def found(weak: Any, device: str = "cpu", gap: float = 1.0) -> list[tuple[str, str]]:
        asked: list[tuple[str, str]] = []
        task = Blobs(ratings=True, supervisors=[Supervisor(weak, ("left",))])
        task.pair_gap = gap
        domains = {name: task.domain(name) for name in task.DOMAINS}
        cache = Cache(tmp_path / "cache")
        trainings: list[str] = []

        def train(labelling: Any, supervisor: Supervisor, model_seed: int, checkpoints: Checkpoints) -> Any:
            trainings.append(checkpoints.key)
            return lambda pool: {s: np.full((len(x), 2), 0.5, np.float32) for s, x in pool.examples.items()}

        def get(kind: str, key: Any, build: Any) -> Any:
            asked.append((str(cache.path(kind, key)), ""))
            return build()

        monkeypatch.setattr(cache, "get", get)
        monkeypatch.setattr(soft._Labelling, "_train", train)
        pool = draw_pool(task, domains, "ood", 0)
        soft.soft_labels(task, domains, pool, 0, cache, device)
        return [(path, training) for (path, _), training in zip(asked, trainings, strict=True)]

    return found


def test_keys_tell_apart_what_gives_other_soft_labels(keys: Any, models: Models) -> None:
    from support.made_up import Centroids

    weak = FineTuned(models["bert"], "reward")
    assert keys(weak) == keys(weak)
    for other in (
        keys(weak, device="cuda"),
        keys(weak, gap=2.0),
        keys(replace(weak, epochs=5)),
        keys(replace(weak, model=models["llama"])),
    ):
        for (path, training), (other_path, other_training) in zip(keys(weak), other, strict=True):
            assert path != other_path
            assert training != other_training  # a checkpoint of the one is none of the other
    plain = Centroids()
    assert [path for path, _ in keys(plain)] == [
        path for path, _ in keys(plain, device="cuda")
    ]  # on the CPU either way
