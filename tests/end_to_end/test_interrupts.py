"""SIGINT and SIGTERM end a command: status 130, one last line, nothing finished is lost (workers: `test_kill.py`)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.api import register_task
from benchmark.base.process import STOPPED, interruptible
from benchmark.cli import main
from benchmark.results.store import ResultStore
from support.command_line import CommandLine
from support.made_up import Blobs, Columns


@pytest.mark.parametrize(
    "where", ["typer.core.TyperCommand.make_context", "typer.core.TyperGroup.make_context", "typer.main.get_command"]
)
def test_an_interrupt_before_a_command_has_begun_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    monkeypatch.setattr("benchmark.cli.interruptible", lambda: None)  # handlers are pytest's here
    monkeypatch.setattr(sys, "argv", ["w2s", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", f"{STOPPED}\n")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of the command; afterwards pytest's again."""
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where this was started in the background
    interruptible()
    yield
    for which, handler in before.items():
        signal.signal(which, handler)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_running_command_ends_and_what_is_finished_stays(
    w2s: CommandLine, handlers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: signal.Signals
) -> None:
    for name in ("first", "second"):
        register_task(Blobs(name=name, edition=name))
    asked = ("run", "--suite", "smoke", "--tasks", "first,second", "--methods", "naive", "--conditions", "ood")
    asked += ("--seeds", "1", "--results", "here")

    def encode(self: Columns, *arguments: object, real: object = Columns.encode) -> object:
        if (tmp_path / "here/naive/records.jsonl").exists():
            os.kill(os.getpid(), which)
        return real(self, *arguments)  # type: ignore[operator]

    with monkeypatch.context() as patch:
        patch.setattr(Columns, "encode", encode)
        stopped = w2s(*asked)
    assert (stopped.status, stopped.err) == (130, "")
    said = "stopped: 1 units run, 1 left, results in here; the same command goes on from there\n"
    assert stopped.out == said
    assert [key.task for key in ResultStore(tmp_path / "here").load().records] == ["first"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL or which != signal.SIGTERM, "a second one ends it at once"
    assert w2s(*asked).out == "1 units run, results in here\n"
