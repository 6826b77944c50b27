"""Tests of the WILDS tasks on miniature data. Those that read them through the real `wilds` run where it is installed
(`make test-wilds`); the folder must not be called `wilds`, or `import wilds` would find it."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from support import miniature
from tasks import _wilds

collect_ignore = [] if find_spec("wilds") else ["test_official_metrics.py", "test_reading.py", "test_runs.py"]


# what wilds does itself, and images that it leaves open, are no errors of ours
THEIRS = ("ignore::UserWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for theirs in THEIRS:
                item.add_marker(pytest.mark.filterwarnings(theirs))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all five data sets; read only."""
    folder = tmp_path_factory.mktemp("data")
    for name in miniature.WRITERS:
        miniature.write(name, folder)
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The miniatures are whole; `small_cli.py` does the same for processes."""
    monkeypatch.setattr(_wilds, "EXAMPLES", miniature.EXAMPLES)


@pytest.fixture(autouse=True)
def scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    """WILDS takes means over groups with torch_scatter, which needs a compiler; PyTorch has had its own for long."""
    try:
        import torch_scatter  # noqa: F401
    except ImportError:
        module = ModuleType("torch_scatter")

        def mean(src: torch.Tensor, index: torch.Tensor, dim_size: int, reduce: str) -> torch.Tensor:
            return torch.zeros(dim_size).scatter_reduce(0, index, src, reduce, include_self=False)

        module.scatter = mean  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch_scatter", module)
