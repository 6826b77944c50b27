"""When CI runs the tests with WILDS: after a change of what they cover, and once a day of work."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import due
import pytest


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Commits a file on a day, in a repository that takes the place of this one; there they have passed on the 20th."""
    monkeypatch.setattr(due, "ROOT", tmp_path)
    monkeypatch.setattr(due, "PASSED", tmp_path / ".passed")

    def commit(day: str, name: str, content: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
        when = f"2026-11-{day}T23:00:00+0000"
        monkeypatch.setenv("GIT_COMMITTER_DATE", when)
        who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        for call in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one", "--date", when]):
            subprocess.run(["git", *call], cwd=tmp_path, check=True)

    commit("20", "benchmark/core/metrics.py", "one")
    assert due.due() == "they have never passed"
    due.PASSED.write_text(f"2026-11-20 {due.covered()}\n")
    assert due.due() is None
    return commit


@pytest.mark.parametrize("name", ["benchmark/core/metrics.py", "tasks/_wilds_task.py", "tests/with_wilds/test_more.py"])
def test_a_change_of_what_they_cover(commit: Callable[[str, str, str], None], tmp_path: Path, name: str) -> None:
    commit("20", name, "two")
    assert due.due() == "what they cover has changed since 2026-11-20"


def test_a_change_that_is_not_committed_yet_counts(commit: Callable[[str, str, str], None], tmp_path: Path) -> None:
    (tmp_path / "benchmark/core/metrics.py").write_text("two")
    assert due.due() == "what they cover has changed since 2026-11-20"


def test_a_change_of_something_else_the_next_day_and_the_day_after(commit: Callable[[str, str, str], None]) -> None:
    commit("20", "benchmark/core/canaries.py", "two")
    assert due.due() is None
    commit("21", "benchmark/core/canaries.py", "three")
    assert due.due() is None
    commit("22", "benchmark/core/canaries.py", "four")
    assert due.due() == "they last passed on 2026-11-20, more than a day before the last commit"


def test_every_path_names_files_of_this_repository() -> None:
    for path in due.COVERED:
        assert list(due.ROOT.glob(path)), path
