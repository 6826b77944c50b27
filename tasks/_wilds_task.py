"""What the tasks on WILDS data share: splits become domains, and one part of the source is a supervisor's own."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from benchmark.api import Domain, Inputs, NotAvailable, Task, TaskCard, W2SError, numpy_rng
from benchmark.assets.archives import download, gigabytes
from benchmark.base.paths import data_root
from tasks import _wilds
from tasks._wilds import DataSet, Index

BY_DOMAIN = "-by-domain"
SUPERVISORS = 3
_PREPARATION = 1  # raise when inputs, labels or groups come out otherwise


class WildsTask(Task):
    """Supervisors train on WILDS's `train`; the `ood` pool is its `test`, the `ind` pool its `id_test`.

    Where WILDS has one split of held-out source data only (`held_out`), it is cut in two fixed halves, by group: one is
    the `ind` pool, the other what supervisors' training is stopped by.

    Domains are named `<split>[-pool|-validation][-1|-2|-3]`. The numbers are three parts of WILDS's source domains, of
    similar numbers of train examples (the largest domain first, each to the smallest part): in the variant
    `<name>-by-domain` each supervisor trains on one of them.

    Args:
        data: the data set.
        card: sources, target and what `requires` says are filled in here.
        held_out: (split of the pool, split for early stopping).
        by_domain: the variant; `parts` says what its domains are.
        parts: words for the domains.
    """

    source_share = 1.0
    max_pool = None
    options: ClassVar[Mapping[str, str]] = {"data_root": "where the data are, instead of --data-root and W2S_DATA"}

    def __init__(
        self,
        data: DataSet,
        card: TaskCard,
        held_out: tuple[str, str],
        *,
        parts: str,
        by_domain: bool = False,
    ) -> None:
        self.name = data.name + BY_DOMAIN * by_domain
        self._data, self._root, self.disk = data, None, data.unpacked
        pool, validation = held_out
        if pool == validation:
            pool, validation = f"{pool}-pool", f"{validation}-validation"
        numbers = [f"-{i + 1}" for i in range(SUPERVISORS)] if by_domain else [""]
        self.ind_domains = (pool,)
        self.validation = tuple(validation + number for number in numbers)
        each = f"; each supervisor trains on a third of the source {parts}"
        self.card = replace(
            card,
            shift=card.shift + each * by_domain,
            sources=tuple("train" + number for number in numbers),
            target="test",
            family=data.name,
            requires=(
                f"packages wilds and torchvision; the folder {data.folder} under --data-root (or W2S_DATA), of which "
                f"{data.url} is the archive, {gigabytes(data.size)}"
            ),
        )

    _root: Path | None

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The same task on data elsewhere."""
        task = copy.copy(self)
        if "data_root" in options:
            folder = options["data_root"]
            if not isinstance(folder, str | Path):
                raise W2SError(f"option data_root={folder}: expected a folder (one named by a number: ./{folder})")
            task._root = Path(folder).absolute()
        return task

    def inputs(self, rows: Index) -> tuple[Callable[[], Inputs], str]:
        """The inputs at these positions of the whole data set, read when asked for; and a hash of what they are."""
        raise NotImplementedError

    @property
    def root(self) -> Path:
        """The data root.

        Raises:
            NotAvailable: none was named.
        """
        root = self._root or data_root()
        if root is None:
            raise NotAvailable(str(_wilds.lacking_data(self._data, None)))
        return root

    def rows(self, name: str) -> Index:
        """Positions of a domain's examples in the whole data set."""
        dataset, units = _wilds.open_dataset(self._data, self.root), _wilds.units(self._data, self.root)
        split, *marks = name.split("-")
        of_split = _wilds.split_of(dataset)
        chosen = of_split == dataset.split_dict[split]
        if marks and not marks[0].isdigit():
            groups = np.unique(units.groups[chosen])
            numpy_rng("wilds", self._data.name, split).shuffle(groups)
            in_pool = np.isin(units.groups, groups[: len(groups) // 2])
            chosen &= in_pool if marks[0] == "pool" else ~in_pool
        if marks and marks[-1].isdigit():
            train = of_split == dataset.split_dict["train"]
            chosen &= parts_of(units.origins, train, SUPERVISORS) == int(marks[-1]) - 1
        return np.flatnonzero(chosen)

    def domain(self, name: str) -> Domain:
        rows = self.rows(name)
        units = _wilds.units(self._data, self.root)
        load, content = self.inputs(rows)
        made_from = json.dumps([self._data.folder, _PREPARATION, content])
        return Domain(
            load=load,
            labels=_wilds.labels_of(_wilds.open_dataset(self._data, self.root))[rows],
            groups=units.groups[rows],
            fingerprint=hashlib.sha256(made_from.encode()).hexdigest(),
            score_groups=units.scored[rows],
        )

    def missing(self) -> str | None:
        """What of the packages and of the local copy is lacking; see `_wilds.lacking_data`."""
        root, packages = self._root or data_root(), _wilds.lacking_packages()
        data = _wilds.lacking_data(self._data, root)
        if packages:
            return f"{data or f'{self._data.folder} is complete in {root}'}; {packages}"
        return data

    def download(self, mirror: str | None, say: Callable[[str], None]) -> None:
        """Get the data set into the data root, unless it is there and whole."""
        if _wilds.lacking_data(self._data, self.root):
            download(self._data.archive(self.card.licence), self.root, mirror, say)


def parts_of(origins: Index, train: Any, parts: int) -> Index:
    """(N,) which of the parts each example's domain is dealt to, -1 for domains without train examples.

    Args:
        origins: (N,) domains, -1 for none.
        train: (N,) bool, the examples that are counted.
    """
    part_of = np.full(int(origins.max()) + 2, -1)  # its last place is that of -1
    domains, counts = np.unique(origins[train & (origins >= 0)], return_counts=True)
    sizes = np.zeros(parts, np.int64)
    for at in np.lexsort((domains, -counts)):
        part_of[domains[at]] = sizes.argmin()
        sizes[sizes.argmin()] += counts[at]
    return part_of[origins]
