import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmark.base import files
from benchmark.base.files import atomic_write, remove_temporaries, remove_temporaries_of, sha256_file

WRITER = """
import sys
from pathlib import Path
from benchmark.base.files import atomic_write
path = Path(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in b"ab":
        atomic_write(path, bytes([letter]) * 3_000_000)
"""


def test_writes_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]
    assert sha256_file(path) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def fail(*args: object, **where: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_content_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    replace, fsync = os.replace, os.fsync

    def note_replace(source: Path, target: Path, **where: Any) -> None:
        calls.append("rename")
        replace(source, target, **where)

    def note_fsync(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "replace", note_replace)
    monkeypatch.setattr(files.os, "fsync", note_fsync)
    atomic_write(tmp_path / "file", b"x")
    assert calls == ["file", "rename", "folder"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for delay in (0.0, 0.013, 0.037, 0.061):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.03 + delay)
            process.kill()
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 3_000_000
            assert len(set(content)) == 1
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".writing-0123.tmp").write_bytes(b"torn")
    (tmp_path / "other.tmp").write_bytes(b"not ours")
    remove_temporaries(tmp_path)
    left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {"file", "other.tmp"}


def test_temporaries_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(files.os, "replace", lambda *args, **where: None)
        for name in ("[1].bin", "[1].bin2", "1.bin"):
            atomic_write(tmp_path / name, b"x")
    assert len(os.listdir(tmp_path)) == 3
    remove_temporaries_of(tmp_path / "[1].bin")
    assert sorted(name.rpartition("-")[0] for name in os.listdir(tmp_path)) == [".writing-1.bin", ".writing-[1].bin2"]
