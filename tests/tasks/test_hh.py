"""HH-RLHF pairs: both layouts of a folder, what is left out, sides, groups, faults; and the real files, if there."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peft")

from benchmark.api import NotAvailable, W2SError
from benchmark.core.inputs import Prompted
from benchmark.core.registry import TASKS
from tasks import _hh
from tasks.hh import HH

BESIDE = Path(__file__).parents[2].parent / "shared" / "data"
REAL = Path(os.environ.get("W2S_DATA", BESIDE)) / "hh-rlhf"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("W2S_DATA", raising=False)
    _hh.read.cache_clear()
    yield
    _hh.read.cache_clear()


def talk(*turns: str) -> str:
    """A conversation: Human, Assistant, Human, ..."""
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {turn}" for i, turn in enumerate(turns))


PAIRS = [
    (talk("How are you?", "Well."), talk("How are you?", "Bad.")),
    (talk("How are you?", "Well.", "Why?", "The sun."), talk("How are you?", "Well.", "Why?", "No reason.")),
    (talk("How  ARE you?", "Fine."), talk("How  ARE you?", "")),
    (talk("Count.", "1 2 3"), talk("Count.", "1 2 3")),  # equal
    (talk("Tell me.", "No."), talk("Tell us.", "Yes.")),  # prompts differ
]


def write(path: Path, pairs: list[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"chosen": chosen, "rejected": rejected}) for chosen, rejected in pairs]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def test_prompts_replies_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "helpful-base" / "train.jsonl.gz", PAIRS[:2])
    write(tmp_path / "helpful-base" / "test.jsonl.gz", PAIRS[2:])
    found = _hh.read(str(tmp_path), "helpful-base")
    assert len(found.replies) == 2 * len(PAIRS)
    for i, label in enumerate(found.labels[:3]):
        pair = found.replies[2 * i : 2 * i + 2]
        chosen, rejected = PAIRS[i]
        prompt = chosen[: chosen.rfind("\n\nAssistant:") + len("\n\nAssistant:")]
        assert pair[label] == Prompted(prompt, chosen.removeprefix(prompt))
        assert pair[1 - label] == Prompted(prompt, rejected.removeprefix(prompt))
        assert all(text.prompt + text.reply in PAIRS[i] for text in pair)
    assert found.labels[3:].tolist() == [-1, -1]
    assert capsys.readouterr().err.splitlines() == [
        "hh-rlhf helpful-base: 2 of 5 pairs left out: 1 with equal responses, 1 whose prompts differ"
    ]


def test_pairs_that_open_alike_are_one_group(tmp_path: Path) -> None:
    write(tmp_path / "helpful-base" / "test.jsonl.gz", PAIRS)
    groups = _hh.read(str(tmp_path), "helpful-base").groups
    assert groups[0] == groups[1] == groups[2]  # in spite of spaces and capitals
    assert len(set(groups[[0, 3, 4]].tolist())) == 3


def test_both_layouts_give_the_same_pairs(tmp_path: Path) -> None:
    write(tmp_path / "a" / "helpful-base" / "train.jsonl.gz", PAIRS[:3])
    write(tmp_path / "a" / "helpful-base" / "test.jsonl.gz", PAIRS[3:])
    write(tmp_path / "b" / "helpful-base.train.jsonl.gz", PAIRS[:3])
    write(tmp_path / "b" / "helpful-base.test.jsonl.gz", PAIRS[3:])
    a, b = (_hh.read(str(tmp_path / name), "helpful-base") for name in "ab")
    assert a.replies == b.replies
    assert a.labels.tolist() == b.labels.tolist()
    assert a.fingerprint == b.fingerprint
    write(tmp_path / "b" / "helpful-base.train.jsonl.gz", PAIRS[:2])
    _hh.read.cache_clear()
    assert _hh.read(str(tmp_path / "b"), "helpful-base").fingerprint != a.fingerprint


@pytest.mark.parametrize("fault", ["truncated", "no gzip", "no JSON", "no UTF-8", "another form", "no reply"])
def test_a_broken_file_is_one_line(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "helpful-base.test.jsonl.gz"
    write(path, PAIRS * 50)
    whole = path.read_bytes()
    content = {
        "truncated": whole[: len(whole) // 2],
        "no gzip": b"<html>not found</html>",
        "no JSON": gzip.compress(b'{"chosen": '),
        "no UTF-8": gzip.compress(b'{"chosen": "\xff\xfe"}'),
        "another form": gzip.compress(b'{"chosen": ["a"], "rejected": "b"}'),
        "no reply": gzip.compress(json.dumps({"chosen": "a", "rejected": "b"}).encode()),
    }[fault]
    path.write_bytes(content)
    with pytest.raises(W2SError, match=r"^hh-rlhf: ") as refused:
        _hh.read(str(tmp_path), "helpful-base")
    message = str(refused.value)
    assert "\n" not in message
    assert ("helpful-base.test.jsonl.gz" in message) is (fault != "no reply")


def test_a_folder_without_the_subset_is_not_available(tmp_path: Path) -> None:
    write(tmp_path / "helpful-base.test.jsonl.gz", PAIRS)
    task = HH("helpful", "harmless").configured({"hh_data": str(tmp_path)})
    with pytest.raises(NotAvailable, match="no harmless-base/"):
        task.domain("harmless-base")
    assert "no harmless-base/{train,test}.jsonl.gz" in (
        _hh.missing(str(tmp_path), ("helpful-base", "harmless-base")) or ""
    )
    assert _hh.missing(str(tmp_path), ("helpful-base",)) is None


def test_a_hub_id_that_cannot_be_had_is_one_line_and_quick() -> None:
    pytest.importorskip("datasets")
    began = time.monotonic()
    message = _hh.missing("no-such-user/no-such-data", ("helpful-base",)) or ""
    assert message.startswith("data set 'no-such-user/no-such-data' (helpful-base) is not on this machine")
    assert "--download" in message
    assert "--set hh_data=FOLDER" in message
    assert "\n" not in message
    assert time.monotonic() - began < 10


def test_a_hub_copy_that_was_fetched_before_is_read_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    files = {"train": tmp_path / "train.jsonl", "test": tmp_path / "test.jsonl"}
    for path, pairs in zip(files.values(), (PAIRS[:2], PAIRS[2:3]), strict=True):
        path.write_text("".join(json.dumps({"chosen": a, "rejected": b}) + "\n" for a, b in pairs))
    cache = tmp_path / "cache"
    datasets.load_dataset("json", data_files={k: str(v) for k, v in files.items()}, cache_dir=str(cache))
    (made,) = cache.glob("json/*/*/*/")  # as the library keeps what it fetched, but for the names
    kept = cache / "user___name" / "default-data_dir=helpful-base" / "0.0.0" / ("0" * 40)
    kept.parent.mkdir(parents=True)
    made.rename(kept)
    for path in list(kept.glob("json-*.arrow")):
        path.rename(kept / path.name.replace("json-", "name-"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    capsys.readouterr()
    found = _hh.read("user/name", "helpful-base")
    assert capsys.readouterr().err == ""
    assert [text.prompt + text.reply in PAIRS[i // 2] for i, text in enumerate(found.replies)] == [True] * 6
    assert "is not on this machine" in (_hh.missing("user/name", ("harmless-base",)) or "")


def test_the_folder_of_local_data_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _hh.source(None) == "Anthropic/hh-rlhf"
    monkeypatch.setenv("W2S_DATA", str(tmp_path))
    assert _hh.source(None) == "Anthropic/hh-rlhf"
    (tmp_path / "hh-rlhf").mkdir()
    assert _hh.source(None) == str(tmp_path / "hh-rlhf")
    assert _hh.source("user/name") == "user/name"


def test_hh_data_must_be_a_word() -> None:
    with pytest.raises(W2SError, match="option hh_data=3: expected a folder or a hub id"):
        HH("helpful", "harmless").configured({"hh_data": 3})


def test_both_directions_are_registered() -> None:
    for source, target in (("helpful", "harmless"), ("harmless", "helpful")):
        card = TASKS[f"hh-{source}-to-{target}"].card
        assert (card.sources, card.target) == ((f"{source}-base",), f"{target}-base")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize(("subset", "count"), [("helpful-base", 2352), ("harmless-base", 2312)])
def test_the_real_files(subset: str, count: int) -> None:
    found = _hh.read(str(REAL), subset)
    assert len(found.labels) == count
    assert len(found.replies) == 2 * count
    used = found.labels >= 0
    assert used.mean() > 0.98
    n = int(used.sum())
    assert abs(found.labels[used].sum() - n / 2) < 4 * np.sqrt(n / 4)
    openings: dict[str, set[int]] = {}
    for i in range(count):
        first, second = found.replies[2 * i : 2 * i + 2]
        assert first.prompt == second.prompt
        assert first.prompt.endswith("\n\nAssistant:")
        opening = " ".join(first.prompt.split("\n\nAssistant:")[0].lower().split())
        openings.setdefault(opening, set()).add(int(found.groups[i]))
    assert all(len(groups) == 1 for groups in openings.values())
    assert len(openings) < count  # there are such
