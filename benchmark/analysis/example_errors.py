"""Standard errors from test examples, kept in the cache: they are all that tables need resamples for."""

import hashlib
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.base import seeding
from benchmark.base.versions import libraries
from benchmark.core import metrics
from benchmark.results import trials
from benchmark.store.cache import Cache

_KIND, _SIZE = "analyses", 16  # in the cache; bytes of a name's hash


class ExampleErrors:
    """The errors on one folder of results that are known, by the name of what they are of.

    Args:
        contents: hash of all results that they depend on. With it and the version of this code, nothing kept is stale.
    """

    def __init__(self, contents: str) -> None:
        self._key = {"version": _version(), "contents": contents, "libraries": libraries("numpy", "scipy")}
        self._new = False

    @cached_property
    def _known(self) -> dict[bytes, float]:
        return self._kept()

    def _kept(self) -> dict[bytes, float]:
        found = Cache().read(_KIND, self._key) or {"names": np.empty((0, _SIZE)), "errors": np.empty(0)}
        return dict(zip(map(bytes, found["names"]), found["errors"].tolist(), strict=True))

    def get(self, name: str, compute: Callable[[], Any]) -> float:
        """The error of this name, computed when it is not known yet."""
        digest = hashlib.blake2b(name.encode(), digest_size=_SIZE).digest()
        if digest not in self._known:
            self._known[digest] = float(compute())
            self._new = True
        return self._known[digest]

    def keep(self) -> None:
        """Add what was computed to the cache."""
        if self._new:
            known = self._kept() | self._known
            names = np.frombuffer(b"".join(known), np.uint8).reshape(-1, _SIZE)
            Cache().write(_KIND, self._key, {"names": names, "errors": np.array(list(known.values()))})
            self._new = False


def known(errors: ExampleErrors | None, name: str, compute: Callable[[], Any]) -> float:
    """The error of this name; computed where nothing is known."""
    return float(compute()) if errors is None else errors.get(name, compute)


@cache
def _version() -> str:
    """Of what computes errors: a hash of its source, as nobody would remember to raise a number."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), *(Path(str(m.__file__)) for m in (metrics, seeding, trials))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
