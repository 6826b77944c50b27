"""Snapshots of a model or data set from the Hugging Face hub: downloaded only when the user asked for it.

Before a download its size, licence, commit and the SHA-256 of its large files are said; before each use these files are
compared.
"""

import contextlib
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from benchmark.assets.archives import gigabytes
from benchmark.base.errors import W2SError
from benchmark.base.files import sha256_file
from benchmark.base.notices import notice
from benchmark.base.paths import settings


def snapshot(
    name: str, kind: Literal["model", "dataset"], patterns: Sequence[str], revision: str | None = None
) -> Path:
    """The folder of a snapshot in the hub's cache on this machine, named by its commit; brought up to date if allowed.

    Args:
        patterns: of the files that are wanted; others are not downloaded.
        revision: a branch, tag or commit; None for the main branch.

    Raises:
        W2SError: what came, also earlier, is not what the hub announced; it was deleted.
        Exception: whatever the hub's client raises: it is not on this machine, no network, no such id, no access.
    """
    folder, announced = _brought(name, kind, patterns, revision)
    # the client keeps each large file under its SHA-256 and links to it from the snapshot: so also those are compared
    # that came before a run that was killed
    kept = {path.relative_to(folder).as_posix(): path.resolve().name for path in folder.rglob("*") if path.is_file()}
    kept = {file: hashed for file, hashed in kept.items() if re.fullmatch("[0-9a-f]{64}", hashed)}
    wanted = {file: kept[file] for file in kept if any(fnmatch(file, pattern) for pattern in patterns)}
    for file, sha256 in {**wanted, **announced}.items():
        if (found := sha256_file(folder / file)) != sha256:
            (folder / file).resolve().unlink()
            (folder / file).unlink(missing_ok=True)
            what = f"{file} came with SHA-256 {found}, the hub announced {sha256}"
            raise W2SError(f"{kind} '{name}': {what}; it was deleted: run again")
    return folder


def _brought(name: str, kind: str, patterns: Sequence[str], revision: str | None) -> tuple[Path, dict[str, str]]:
    """The folder of a snapshot, and the SHA-256 of the large files that came now."""
    from huggingface_hub import HfApi, snapshot_download

    # not by commit: then the next run would not find it by the branch's name
    where: dict[str, Any] = {"repo_type": kind, "revision": revision, "allow_patterns": list(patterns)}
    if not settings().download:
        return Path(snapshot_download(name, **where, local_files_only=True)), {}
    try:
        state: Any = HfApi().repo_info(name, repo_type=kind, revision=revision, files_metadata=True)
    except Exception:
        with contextlib.suppress(Exception):  # the hub can't be reached: what is here must do
            return Path(snapshot_download(name, **where, local_files_only=True)), {}
        raise
    plan: Any = snapshot_download(name, **where, dry_run=True)
    coming = {file.filename: file.file_size or 0 for file in plan if file.will_download}
    hashes = {file.rfilename: file.lfs.sha256 for file in state.siblings if file.lfs and file.rfilename in coming}
    if coming:
        size = gigabytes(sum(coming.values()))
        stated = (tag.removeprefix("license:") for tag in state.tags or () if tag.startswith("license:"))
        licence = next(stated, "not stated")
        notice(
            f"downloading {kind} {name} from the hub: {size} in {len(coming)} files, licence {licence}, "
            f"commit {state.sha}"
        )
        for file, sha256 in hashes.items():
            notice(f"  {file}: {gigabytes(coming[file])}, SHA-256 {sha256}")
    folder = Path(snapshot_download(name, **where))
    if coming and folder.name != state.sha:
        what = f"commit {folder.name} came, the hub announced {state.sha}"
        raise W2SError(f"{kind} '{name}': {what}: it was changed meanwhile; run again")
    return folder, hashes
