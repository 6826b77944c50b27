"""`w2s run` with tiny language models as students."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.core.records import Record
from benchmark.results.contents import Contents
from benchmark.results.replies import ReplyKey, read_replies
from benchmark.results.store import ResultStore
from support import SUPPORT
from support.command_line import CommandLine, Outcome

PLUGIN = SUPPORT / "tiny_tasks.py"
QUICK = ("--set", "epochs=1", "--set", "max_train=24", "--set", "max_tokens=12")


class Tiny:
    """`w2s run` of the tiny tasks."""

    def __init__(self, w2s: CommandLine, folder: Path) -> None:
        self.w2s, self.results, self.cache = w2s, folder / "results", folder / "cache"

    def __call__(
        self, task: str, methods: str, *more: str, seeds: int = 1, conditions: str = "ood", quick: bool = True
    ) -> Outcome:
        asked = ["run", "--suite", "smoke", "--plugin", PLUGIN, "--tasks", task, "--methods", methods]
        asked += ["--seeds", str(seeds), "--conditions", conditions, "--results", self.results, "--cache", self.cache]
        return self.w2s(*asked, *(QUICK if quick else ()), *more)

    @property
    def contents(self) -> Contents:
        return ResultStore(self.results).load()

    @property
    def records(self) -> dict[tuple[str, int], Record]:
        return {(key.method, key.seed): record for key, record in self.contents.records.items()}

    @property
    def replies(self) -> dict[ReplyKey, Any]:
        found, problems = read_replies(self.results)
        assert not problems
        return found

    def checkpoints(self) -> list[Path]:
        """Those of students: they are of no more use when their unit is written."""
        files = (self.cache / "checkpoints").glob("*.safetensors")
        return [path for path in files if '"methods"' in _key(path)]


def _key(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return str(json.loads(file.metadata()["checkpoint"])["key"]).replace('\\"', '"')
