"""Training that was killed after any epoch, and started again, gives the same bits as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.base.errors import MethodFailed, W2SError
from benchmark.core.data import Recipe
from benchmark.core.losses import cross_entropy
from benchmark.core.method import Batch, Method, Supervision
from benchmark.core.registry import METHODS
from benchmark.core.training import Trained, TrainingData, train
from benchmark.store.checkpoints import Checkpoints
from benchmark.students.linear import Heads
from benchmark.testing import make_data
from support.tiny import Models, opinions, soft_labels

RECIPE = Recipe(learning_rate=1e-2, epochs=3, batch_size=8)
SETTINGS = {"task": "made up", "seeds": [1, 2]}


class Killed(BaseException):
    """As a signal: nothing catches it."""


def after(epochs: int) -> Callable[[float], None]:
    """Dies at the end of the given epoch of the run (all stages counted); what was restored counts, too."""
    ended = 0

    def on_step(share: float) -> None:
        nonlocal ended
        ended += share == 1
        if ended == epochs:
            raise Killed

    return on_step


def values(trained: list[Trained]) -> list[Tensor]:
    found: list[Tensor] = []
    for one in trained:
        student = one.student
        if isinstance(student, Heads):
            found += [student.weight] + ([] if student.bias is None else [student.bias])
        else:
            found += student.weights  # type: ignore[attr-defined]
        found += [one.diagnostics[name] for name in sorted(one.diagnostics)]
    return found


def check_resumable(names: list[str], data: TrainingData, folder: Path, recipe: Recipe = RECIPE) -> None:
    """Kill the training after each of its epochs in turn, going on each time; no step is made twice."""
    steps = 0

    def methods() -> list[Method]:
        made = [METHODS[name]() for name in names]
        for method in made:
            original = method.after_step

            def counted(original: Callable[[], None] = original) -> None:
                nonlocal steps
                steps += 1
                original()

            object.__setattr__(method, "after_step", counted)
        return made

    expected = train(methods(), data, recipe)
    whole, steps = steps, 0
    checkpoints = Checkpoints.of(folder, SETTINGS)
    kills = 0
    while True:
        try:
            found = train(methods(), data, recipe, after(kills + 1), checkpoints)
            break
        except Killed:
            kills += 1
            assert list((folder / "checkpoints").glob("*.safetensors"))
    assert kills >= recipe.epochs
    assert steps == whole
    for a, b in zip(values(found), values(expected), strict=True):
        assert torch.equal(a, b)
    assert [one.steps for one in found] == [one.steps for one in expected]
    checkpoints.discard()
    assert not list((folder / "checkpoints").glob("*"))


@dataclass(eq=False)
class OwnLeaf(Method):
    """Weights that it owns for the whole training, stepped by hand, as CONTRIBUTING says."""

    name = "own_leaf"
    title = "Own leaf"
    citation = "a test"
    kind = "ensemble"

    def start(self, supervision: Supervision) -> None:
        R, _, M, _ = supervision.soft_labels.shape
        self.weights = torch.zeros(R, M, requires_grad=True)
        self.steps = 0

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        mixed = (self.weights.softmax(1)[:, None, :, None] * batch.soft_labels).sum(2)
        return cross_entropy(logits, mixed)

    def after_step(self) -> None:
        with torch.no_grad():
            self.weights -= 0.5 * self.weights.grad  # type: ignore[operator]
        self.weights.grad = None
        self.steps += 1

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights, "steps": torch.full((len(self.weights),), float(self.steps))}


@dataclass(eq=False)
class OwnOptimizer(OwnLeaf):
    name = "own_optimizer"

    def start(self, supervision: Supervision) -> None:
        super().start(supervision)
        self.adam = torch.optim.Adam([self.weights], lr=0.1)

    def after_step(self) -> None:
        self.adam.step()
        self.adam.zero_grad()
        self.steps += 1


@dataclass(eq=False)
class HiddenState(OwnLeaf):
    """State in a list, which no checkpoint can hold."""

    name = "hidden_state"

    def start(self, supervision: Supervision) -> None:
        super().start(supervision)
        self.seen = [0.0]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        self.seen[0] += 1
        return super().loss(logits, batch) * (1 + 0.1 * self.seen[0])


@pytest.mark.parametrize("kind", [OwnLeaf, OwnOptimizer])
def test_what_a_method_owns_goes_on_bit_for_bit(
    kind: type[Method], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS._items, kind.name, kind)
    check_resumable([kind.name], make_data(), tmp_path)
    check_resumable([kind.name, "raven", "naive"], make_data(), tmp_path)


def test_hidden_state_is_never_half_restored(tmp_path: Path) -> None:
    data, checkpoints = make_data(), Checkpoints.of(tmp_path, SETTINGS)
    expected = train([HiddenState()], data, RECIPE)
    with pytest.raises(Killed):
        train([HiddenState()], data, RECIPE, after(2), checkpoints)
    assert not list(tmp_path.rglob("*.safetensors"))
    for a, b in zip(
        values(train([HiddenState()], data, RECIPE, checkpoints=checkpoints)), values(expected), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    check_resumable([name], make_data(supervisors=max(3, METHODS[name].min_supervisors)), tmp_path)


def test_methods_that_train_together(tmp_path: Path) -> None:
    check_resumable(["naive", "raven", "raven_per_sample", "bootstrapping", "co_supervised"], make_data(), tmp_path)


@pytest.mark.parametrize("names", [["naive", "raven", "confidence"], ["bootstrapping"], ["co_supervised"]], ids=str)
def test_a_language_model_goes_on_bit_for_bit(names: list[str], models: Models, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from benchmark.students.language.student import LanguageModel

    kind = LanguageModel("classifier", 2, models["bert"], 1, rank=2, max_tokens=20)
    texts, labels = opinions(17, 0)
    p = torch.from_numpy(soft_labels(labels, 2, np.random.default_rng(0)))[None]
    data = TrainingData({"tokens": [kind.sequences(texts)]}, p, (4,), kind.start)
    check_resumable(names, data, tmp_path, replace(RECIPE, epochs=2))


def test_a_students_tensors_of_another_layout_are_not_taken_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of language models before their replicas had one tensor a layer: (r, D), not (R, r, D)."""
    data, checkpoints = make_data(), Checkpoints.of(tmp_path, SETTINGS)
    expected = values(train([METHODS["naive"]()], data, RECIPE))
    for former in (
        lambda tensors: {n: t[0, 0] if n == "student/0" else t for n, t in tensors.items()},
        lambda tensors: {**tensors, "student/9": tensors["student/0"].clone()},
    ):
        interrupted(tmp_path)
        own = checkpoints.part("together")
        found = own.load()
        assert found is not None
        own.save(former(found[0]), found[1])
        trained = values(train([METHODS["naive"]()], data, RECIPE, checkpoints=checkpoints))
        assert "holds a student's tensors as they once were; training starts anew" in capsys.readouterr().err
        assert all(torch.equal(a, b) for a, b in zip(trained, expected, strict=True))
        checkpoints.discard()


def interrupted(folder: Path, epochs: int = 2) -> Checkpoints:
    checkpoints = Checkpoints.of(folder, SETTINGS)
    with pytest.raises(Killed):
        train([METHODS["naive"]()], make_data(), RECIPE, after(epochs), checkpoints)
    return checkpoints


def test_a_checkpoint_from_other_settings_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    (path,) = (tmp_path / "checkpoints").glob("*.safetensors")
    before = path.read_bytes()
    other = Checkpoints.of(tmp_path, {**SETTINGS, "seeds": [1, 3]})
    assert other.path is not None
    assert other.path != path.with_stem(path.stem.removesuffix("-together"))
    moved = path.rename(other.path.with_name(f"{other.path.stem}-together.safetensors"))
    with pytest.raises(W2SError, match=r"seeds: found \[1, 2\], expected \[1, 3\]") as refused:
        train([METHODS["naive"]()], make_data(), RECIPE, checkpoints=other)
    assert not isinstance(refused.value, MethodFailed)
    assert str(moved) in str(refused.value)
    assert moved.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "another file", "flipped"])
def test_a_broken_checkpoint_is_reported_and_training_starts_anew(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = values(train([METHODS["naive"]()], make_data(), RECIPE))
    checkpoints = interrupted(tmp_path)
    (path,) = (tmp_path / "checkpoints").glob("*.safetensors")
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])  # a sound file with another number in it
    damaged = {"truncated": whole[: len(whole) // 2], "empty": b"", "another file": b"{}" * 100, "flipped": flipped}
    path.write_bytes(damaged[damage])
    found = values(train([METHODS["naive"]()], make_data(), RECIPE, checkpoints=checkpoints))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"checkpoint {path.name} is broken (")
    assert line.endswith("training starts anew")


def test_training_goes_on_where_no_checkpoint_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("benchmark.store.checkpoints.atomic_write", full)
    (found,) = train([METHODS["naive"]()], make_data(), RECIPE, checkpoints=Checkpoints.of(tmp_path, SETTINGS))
    assert found.student.finite()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == RECIPE.epochs
    assert "No space left on device" in lines[0]
