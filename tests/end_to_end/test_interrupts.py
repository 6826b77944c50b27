"""SIGINT and SIGTERM before a command has begun its work (later ones: `test_kill.py`): status 130, one last line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.base.interrupts import STOPPED
from benchmark.cli import main


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


INTERRUPTED = """
import os, signal, sys, time
for _ in range(2):
    os.kill(os.getpid(), signal.{signal})
    time.sleep(0.005)
time.sleep(0.1)
print("imported", file=sys.stderr)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_waits_until_an_import_is_done(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(INTERRUPTED.format(signal=name))
    ended = in_a_process(tmp_path, "run", "--plugin", "mine.py", "--dry-run")
    assert (ended.returncode, ended.stderr) == (130, "imported\n")
    assert ended.stdout.startswith("stopped: no unit was begun")


@pytest.mark.parametrize("delay", [0.2, 0.4, 0.6, 0.8, 1.0, 1.2])  # it loads torch
def test_an_interrupt_while_a_command_is_loaded_is_said(tmp_path: Path, delay: float) -> None:
    ended = in_a_process(tmp_path, "run", "--suite", "smoke", "--tasks", "solar-mono-to-poly", after=delay)
    last = (ended.stdout + ended.stderr).splitlines()[-1]
    if (ended.returncode, last) != (0, "1 units run, results in runs/smoke"):  # on a fast machine
        assert ended.returncode == 130
        assert last == STOPPED or last.startswith("stopped: no unit was begun")


def in_a_process(folder: Path, *arguments: str, after: float = 0) -> subprocess.CompletedProcess[str]:
    """`w2s` in a process of its own, to which SIGINT is sent after so many seconds from the moment that it began."""
    code = "import signal; signal.signal(2, signal.default_int_handler)\nfrom benchmark.cli import main"
    call = [sys.executable, "-c", f"{code}; print('begun', flush=True); main()", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(call, cwd=folder, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if after:
            time.sleep(after)
            process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    return subprocess.CompletedProcess(call, process.returncode, out, err)
