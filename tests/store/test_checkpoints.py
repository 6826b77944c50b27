"""Checkpoints give back what was saved, bit by bit, or nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import W2SError
from benchmark.core.problems import build_problem
from benchmark.core.task import Supervisor
from benchmark.store.cache import Cache
from benchmark.store.checkpoints import Checkpoints
from support.made_up import Blobs, Centroids

KEY = {"task": "made up", "seeds": [1, 2]}
PROGRESS = {"epoch": 2, "best": 0.5}
TENSORS = {
    "weight": torch.linspace(-1, 1, 12).reshape(3, 4),
    "turned": torch.arange(6).reshape(2, 3).T,
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "mask": torch.tensor([True, False]),
    "none": torch.empty(0, 5),
}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints.of(tmp_path, KEY)
    checkpoints.save(TENSORS, PROGRESS)
    return checkpoints


def path_of(checkpoints: Checkpoints) -> Path:
    assert checkpoints.path is not None
    return checkpoints.path


def is_what_was_saved(found: tuple[dict[str, Tensor], dict[str, Any]]) -> bool:
    tensors, progress = found
    same = all(torch.equal(tensors[name], x) and tensors[name].dtype == x.dtype for name, x in TENSORS.items())
    return same and tensors.keys() == TENSORS.keys() and progress == PROGRESS


def test_what_is_saved_comes_back(saved: Checkpoints) -> None:
    found = saved.load()
    assert found is not None
    assert is_what_was_saved(found)


def test_no_damage_of_many_is_ever_gone_on_from(saved: Checkpoints, capsys: pytest.CaptureFixture[str]) -> None:
    whole, rng = path_of(saved).read_bytes(), random.Random(0)
    for times in range(300):
        data = bytearray(whole)
        at = rng.randrange(len(data))
        if times % 4 == 0:
            del data[at:]
        elif times % 4 == 1:
            data[at : at + 32] = bytes(len(data[at : at + 32]))
        else:
            data[at] ^= 1 << rng.randrange(8)
        path_of(saved).write_bytes(data)
        found = saved.load()
        said = capsys.readouterr().err.splitlines()
        if found is None:
            assert len(said) == 1
            assert said[0].startswith(f"checkpoint {path_of(saved).name} is broken (")
        else:  # zeros were zeroed
            assert is_what_was_saved(found)


@pytest.mark.parametrize("byte", [-1, 0])
def test_a_flipped_bit_of_the_numbers(saved: Checkpoints, byte: int, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(path_of(saved).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start if byte == 0 else -1] ^= 1
    path_of(saved).write_bytes(data)
    assert saved.load() is None
    assert "is broken (its checksum differs); training starts anew" in capsys.readouterr().err


def test_another_trainings_is_refused_and_kept(saved: Checkpoints, tmp_path: Path) -> None:
    other = Checkpoints.of(tmp_path, {**KEY, "seeds": [3]})
    path_of(saved).rename(path_of(other))
    with pytest.raises(W2SError, match=r"seeds: found \[1, 2\], expected \[3\]"):
        other.load()
    assert path_of(other).exists()


@dataclass(frozen=True)
class Resumable(Centroids):
    """A weak model that saves its state while it is trained."""

    name: ClassVar[str] = "tests.resumable"
    resumable: ClassVar[bool] = True

    def fit(self, *data: Any, checkpoints: Checkpoints) -> Any:  # type: ignore[override]
        assert checkpoints.load() is None
        for epoch in range(3):
            checkpoints.save(TENSORS, {"epoch": epoch})
        return super().fit(*data)


def test_a_supervisor_is_trained_where_no_checkpoint_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    task = Blobs(supervisors=[Supervisor(Centroids(), ("left",)), Supervisor(Resumable(), ("right",))])
    found = build_problem(task, "ood", 0, Cache(tmp_path / "file" / "cache"))
    assert found.soft_labels["train"].shape[1] == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("checkpoint")]
    assert line.endswith("going on without")


def test_what_is_discarded_goes_with_what_a_kill_left_of_it(saved: Checkpoints, tmp_path: Path) -> None:
    saved.part("canary").save(TENSORS, PROGRESS)
    other = Checkpoints.of(tmp_path, {**KEY, "seeds": [3]})
    other.save(TENSORS, PROGRESS)
    path_of(saved).with_name(f".writing-{path_of(saved).name}-0123.tmp").touch()
    with saved.locked() as usable:
        assert usable is saved
    saved.discard()
    assert list(path_of(saved).parent.iterdir()) == [path_of(other)]


def test_what_can_not_be_discarded_stays(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A read-only cache; its results are written, and must not be reported as if they were not."""

    def refuse(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    saved.discard()
    assert "cannot be deleted ([Errno 30] Read-only file system); it stays" in capsys.readouterr().err
