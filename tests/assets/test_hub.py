"""Snapshots from the hub, from a made-up one: asked for, announced, compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from benchmark.assets.hub import snapshot
from benchmark.base.errors import W2SError
from benchmark.base.paths import Settings, use

COMMIT = "c0ffee" * 6 + "cafe"
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"a pickle"}


@dataclass
class Hub:
    """One repository; `sends` is what really comes. Keeps its cache as the client does: snapshots of links to blobs."""

    cache: Path
    sends: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    commit: str = COMMIT
    tags: tuple[str, ...] | None = ("text-generation", "license:apache-2.0")
    reachable: bool = True
    asked: list[str] = field(default_factory=list)

    def repo_info(self, name: str, *, repo_type: str, revision: str | None, files_metadata: bool) -> Any:
        self.asked.append("info")
        if not self.reachable:
            raise OSError("no network")
        lfs = {"model.safetensors", "pytorch_model.bin"}
        siblings = [
            SimpleNamespace(
                rfilename=file,
                lfs=SimpleNamespace(sha256=hashlib.sha256(data).hexdigest()) if file in lfs else None,
            )
            for file, data in FILES.items()
        ]
        return SimpleNamespace(sha=COMMIT, tags=self.tags, siblings=siblings)

    def snapshot_download(
        self,
        name: str,
        *,
        repo_type: str,
        revision: str | None,
        allow_patterns: list[str],
        local_files_only: bool = False,
        dry_run: bool = False,
    ) -> Any:
        folder = self.cache / "snapshots" / self.commit
        wanted = [file for file in self.sends if any(fnmatch(file, pattern) for pattern in allow_patterns)]
        lacking = [file for file in wanted if not (folder / file).exists()]
        if local_files_only:
            if lacking:
                raise FileNotFoundError("not in the cache")
            return str(folder)
        self.asked.append("plan" if dry_run else "files")
        if dry_run:
            return [
                SimpleNamespace(filename=file, file_size=len(FILES[file]), will_download=file in lacking)
                for file in wanted
            ]
        for file in lacking:
            blob = self.cache / "blobs" / hashlib.sha256(FILES[file]).hexdigest()
            for path in (blob, folder / file):
                path.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(self.sends[file])
            (folder / file).symlink_to(blob)
        return str(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    use(Settings(download=True))
    return made


def get() -> Path:
    return snapshot("user/name", "model", ["*.json", "*.safetensors"])


def test_nothing_is_asked_of_the_hub_unless_the_user_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Settings())
    with pytest.raises(FileNotFoundError):
        get()
    assert hub.asked == []


def test_size_licence_commit_and_hashes_are_said_before_anything_comes(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = hub.snapshot_download

    def watched(name: str, **options: Any) -> Any:
        if not options.get("dry_run"):
            said.append(capsys.readouterr().err)
        return real(name, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", watched)
    folder = get()
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert said == [
        f"downloading model user/name from the hub: 0.0 MB in 2 files, licence apache-2.0, commit {COMMIT}\n"
        f"  model.safetensors: 0.0 MB, SHA-256 {sha256}\n"
    ]
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert folder.name == COMMIT
    assert get() == folder
    assert capsys.readouterr().err == "", "nothing comes the second time"


@pytest.mark.parametrize("tags", [None, (), ("text-generation",)])
def test_a_licence_that_is_not_stated(hub: Hub, tags: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hub.tags = tags
    get()
    assert "licence not stated" in capsys.readouterr().err


def test_what_is_not_as_announced_is_deleted(hub: Hub) -> None:
    hub.sends["model.safetensors"] = b"other"
    found, expected = (hashlib.sha256(data).hexdigest() for data in (b"other", b"weights"))
    with pytest.raises(W2SError, match="it was deleted: run again") as refused:
        get()
    assert f"model.safetensors came with SHA-256 {found}, the hub announced {expected}" in str(refused.value)
    assert not list(hub.cache.rglob("model.safetensors"))
    assert not (hub.cache / "blobs" / expected).exists()
    hub.sends["model.safetensors"] = b"weights"
    assert (get() / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("how", ["downloads", "no downloads", "not reachable"])
def test_what_a_killed_run_did_not_compare_is_compared_by_the_next(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    hub.sends["model.safetensors"] = b"other"
    hub.snapshot_download("user/name", repo_type="model", revision=None, allow_patterns=["*.safetensors", "*.json"])
    hub.reachable = how != "not reachable"
    use(Settings(download=how != "no downloads"))
    with pytest.raises(W2SError, match=r"model\.safetensors came with SHA-256 .* it was deleted: run again"):
        get()
    assert not list(hub.cache.rglob("model.safetensors"))


def test_only_what_is_wanted_is_compared(hub: Hub) -> None:
    (get() / "pytorch_model.bin").symlink_to(hub.cache / "0".zfill(64))
    (hub.cache / "0".zfill(64)).write_bytes(b"of another program")
    assert {path.name for path in get().iterdir()} == {"config.json", "model.safetensors", "pytorch_model.bin"}


def test_another_commit_than_announced_is_refused(hub: Hub) -> None:
    hub.commit = "0" * 40
    with pytest.raises(
        W2SError, match="commit 0000000000000000000000000000000000000000 came, the hub announced c0ffee"
    ):
        get()


def test_a_hub_that_cannot_be_reached(hub: Hub) -> None:
    hub.reachable = False
    with pytest.raises(OSError, match="no network"):
        get()
    hub.reachable = True
    folder = get()
    hub.reachable = False
    assert get() == folder
