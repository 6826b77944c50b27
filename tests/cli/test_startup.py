"""Commands that only read import no more than they need, and so start at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.results.store import ResultStore
from support.synthetic import Task, fill

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "sklearn", "transformers", "scipy.stats", "matplotlib"}
CODE = """
import json, sys
from benchmark.cli import main
sys.argv[0] = "w2s"
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("startup")
    fill(ResultStore(root / "demo"), [Task("a")], ("naive", "ensemble"), seeds=range(2), conditions=("ood",))
    return root


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY | {"numpy", "pydantic", "rich"}),
        (["--version"], HEAVY | {"numpy", "pydantic", "rich"}),
        (["leaderboard", "--results", "demo"], HEAVY | {"pandas", "rich"}),
        (["compare", "naive", "ensemble", "--results", "demo"], HEAVY | {"pandas", "rich"}),
        (["export", "--format", "latex", "--results", "demo"], HEAVY | {"pandas", "rich"}),
        (["export", "--format", "csv", "--results", "demo"], HEAVY | {"rich"}),
        (["cache", "info"], HEAVY | {"pandas", "rich"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_needed_is_not_imported(results: Path, arguments: list[str], heavy: set[str]) -> None:
    environment = {"PYTHONPATH": str(ROOT), "W2S_CACHE": str(results / "cache"), "PATH": "/usr/bin:/bin"}
    call = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(call, cwd=results, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert "typer" in modules
    assert heavy & modules == set()
