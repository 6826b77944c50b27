"""A suite of made-up tasks with published results, and a method that is submitted to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.core import suite as suite_module
from benchmark.core.registry import register_task
from support.command_line import CommandLine, Outcome, command_line
from support.made_up import Blobs, registries_restored

SUITE = """
description = "Two made-up tasks"
tasks = ["tiny-one", "tiny-two"]
methods = ["ensemble", "naive", "ground_truth"]
conditions = ["ood", "ind"]
seeds = 2

[student]
learning_rate = 1e-2
epochs = 2
batch_size = 32
"""

AGREEMENT = '''
"""CE(q, mean p), weighted by the mean's highest probability."""
from dataclasses import dataclass

from benchmark.api import Method, cross_entropy, register_method


@register_method
@dataclass(eq=False)
class Agreement(Method):
    """CE(q, mean p) * max(mean p)^sharpness."""

    name = "agreement"
    title = "Agreement"
    citation = "a test"
    kind = "ensemble"

    sharpness: float = 20.0

    def loss(self, logits, batch):
        mean = batch.soft_labels.mean(2)
        return cross_entropy(logits, mean) * mean.amax(-1) ** self.sharpness
'''
RECORDS = 2 * 2 * 2  # tasks, conditions, seeds
ASKED = ("submit", "agreement.py", "--suite", "tiny")


@contextmanager
def tiny_suite(folder: Path, template: Path | None = None) -> Iterator[CommandLine]:
    """`w2s` in a folder with `results/tiny` and `agreement.py`; results and cache are those of a template's."""
    with command_line(folder) as w2s, pytest.MonkeyPatch.context() as patch:
        (folder / "suites").mkdir()
        (folder / "suites" / "tiny.toml").write_text(SUITE)
        patch.setattr(suite_module, "SUITES", folder / "suites")
        register_task(Blobs((1500, 1200, 1300), name="tiny-one"))  # large enough for methods to differ
        register_task(Blobs((1400, 1400, 1600), name="tiny-two"))
        (folder / "agreement.py").write_text(AGREEMENT)
        for name in ("results", "cache") if template else ():
            shutil.copytree(template / name, folder / name)
        assert w2s("run", "--suite", "tiny", "--results", "results/tiny").status == 0
        yield w2s


def as_process(w2s: CommandLine, *arguments: str | Path) -> Outcome:
    """A command after which plug-ins are forgotten, as at the end of a process."""
    with registries_restored():
        return w2s(*arguments)
