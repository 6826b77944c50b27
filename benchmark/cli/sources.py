"""Where a run's task comes from if it is no registered one. Apart, as it imports torch."""

from pathlib import Path

from benchmark.arrays import ArraysSource
from benchmark.base.errors import W2SError
from benchmark.base.paths import using
from benchmark.core.source import Source
from benchmark.packs.hub import find_pack
from benchmark.packs.read import PackSource


def source_of(arrays: Path | None, split_by_group: bool, pack: str | None, download: bool) -> Source | None:
    """What `--arrays` and `--pack` name; with `download`, a pack may be fetched from a hub."""
    if split_by_group and arrays is None:
        raise W2SError("--split-by-group: only with --arrays (tasks say themselves how they are split)")
    if arrays is not None and pack is not None:
        raise W2SError("--pack: not with --arrays, as either is a task of its own")
    if arrays is not None:
        return ArraysSource(arrays.absolute(), split_by_group)
    with using(download=download):
        return None if pack is None else PackSource(find_pack(pack))
