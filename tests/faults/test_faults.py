"""A short campaign on two tasks of the smoke suite (`make faults` is the whole one), and what it would notice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from campaign import ROWS, Row
from places import PER_UNIT, Campaign, campaign
from storage import CAN_NOT
from verdict import Tally

TASKS = ("sentiment-to-tweets", "preference-to-tweets-broken")
SHORT = [row for row in ROWS if row.short]


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    with campaign(tmp_path_factory.mktemp("faults") / "campaign", TASKS) as found:
        yield found


@pytest.mark.parametrize("row", SHORT, ids=[row.title for row in SHORT])
def test_nothing_is_lost_doubled_torn_wrong_or_misreported(under_way: Campaign, row: Row) -> None:
    tally = row.faults(under_way, row.short)
    assert tally.clean, "\n".join(tally.notes)
    if CAN_NOT in tally.notes:
        pytest.skip(CAN_NOT)
    assert tally.faults >= row.short


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def without_a_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def a_line_twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])


def another_number(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"accuracy":0.', b'"accuracy":0.1', 1))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "change", "counted"),
    [
        ("naive/records.jsonl", cut, {"torn", "lost"}),
        ("naive/records.jsonl", without_a_line, {"lost"}),
        ("naive/records.jsonl", a_line_twice, {"doubled"}),
        ("naive/records.jsonl", another_number, {"wrong", "lost"}),
        ("naive/predictions.safetensors", cut, {"torn"}),
        ("naive/predictions.safetensors", remove, {"torn"}),
        ("_tasks/sentiment-to-tweets-ood.safetensors", remove, {"torn"}),
        ("raven/records.jsonl", remove, {"lost"}),
    ],
)
def test_the_verdict_on_results_notices(
    under_way: Campaign, tmp_path: Path, name: str, change: Callable[[Path], None], counted: set[str]
) -> None:
    shutil.copytree(under_way.folder / "undisturbed", tmp_path / "results")
    tally = Tally()
    had = under_way.reference.examine(tmp_path / "results", set(), tally)
    under_way.reference.compare(tmp_path / "results", tally)
    assert tally.clean
    assert len(had) == PER_UNIT * len(TASKS)

    change(tmp_path / "results" / name)
    under_way.reference.examine(tmp_path / "results", had, tally)
    assert {kind for kind in ("lost", "doubled", "torn", "wrong", "misreported") if getattr(tally, kind)} == counted
    in_the_end = Tally()
    under_way.reference.compare(tmp_path / "results", in_the_end)
    assert in_the_end.wrong == 1


def test_the_verdict_on_results_notices_what_is_left_of_a_kill(under_way: Campaign, tmp_path: Path) -> None:
    shutil.copytree(under_way.folder / "undisturbed", tmp_path / "results")
    (tmp_path / "results" / "naive" / ".writing-0.tmp").touch()
    tally = Tally()
    under_way.reference.compare(tmp_path / "results", tally)
    assert tally.torn == 1


def test_the_verdict_on_a_cache_notices(under_way: Campaign, tmp_path: Path) -> None:
    shutil.copytree(under_way.cache, tmp_path / "cache")
    first, second, third, *_ = sorted((tmp_path / "cache").glob("soft_labels/*.safetensors"))
    cut(first)
    shutil.copy(third, second)
    tally = Tally()
    under_way.reference.examine_cache(tmp_path / "cache", tally)
    assert (tally.torn, tally.wrong) == (1, 1)
