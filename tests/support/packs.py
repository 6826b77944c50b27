"""Packs that another program has written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def reseal(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the sheet and write hashes that fit, as another program could."""
    content = json.loads((folder / "pack.json").read_text())
    del content["sha256"]
    for name, entry in content["files"].items():
        data = (folder / name).read_bytes()
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    edit(content)

    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    sealed = {**content, "sha256": hashlib.sha256(text(content).encode()).hexdigest()}
    (folder / "pack.json").write_text(text(sealed))
