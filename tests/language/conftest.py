"""Tiny language models for tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import FAMILIES, Models, save_model

sys.path.insert(0, str(Path(__file__).parent.parent / "end_to_end"))
from command_line import CommandLine, command_line


@pytest.fixture(autouse=True)
def quiet_libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, and no hub."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", os.environ.get("TOKENIZERS_PARALLELISM", "false"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are tiny
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A folder for each family."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        save_model(root / family, family)
    save_model(root / "gpt2-no-pad", "gpt2", pad=False)
    return Models(root)


@pytest.fixture
def w2s(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in a folder of the test's own."""
    with command_line(tmp_path) as command:
        yield command
