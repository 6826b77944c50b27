from __future__ import annotations

from pathlib import Path

import pytest

from support.forked_runs import Forker
from support.shared import shared


@pytest.fixture(scope="session")
def smoke_results(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the smoke suite leaves, with the user's ordinary cache: a minute cold. Not to be changed."""

    def run(folder: Path) -> None:
        ended = forker.run("run", "--suite", "smoke", "--results", "results", folder=str(folder))
        assert (ended.status, ended.out) == (0, "3 units run, results in results\n"), ended

    return shared(tmp_path_factory, "smoke", run) / "results"
