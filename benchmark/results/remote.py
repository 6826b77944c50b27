"""Results at an fsspec address: the driver reads and writes a copy of its own, and sends each unit there."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmark.base.errors import Vanished, W2SError
from benchmark.core.records import Evaluation, Record
from benchmark.results.contents import Contents
from benchmark.results.store import ResultStore
from benchmark.store.mirror import Mirror, split_address


def open_store(where: str) -> ResultStore:
    """The results in a folder or at an address."""
    folder, address = split_address(where)
    if address is None:
        assert folder is not None
        return ResultStore(folder)
    return RemoteStore(address)


class RemoteStore(ResultStore):
    """Results at an address. Each file goes there in the order in which it must: truth, predictions, records.

    Args:
        address: as fsspec has it.
    """

    def __init__(self, address: str) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="w2s-results-")))
        atexit.register(self._forget)
        self._mirror = Mirror(address, self.root)
        self._intact: Callable[[], bool] = lambda: True  # while the address is locked: see `Mirror.locked`
        self._vanished = False

    def load(self) -> Contents:
        """What was there when it was first looked at, or locked, and what was written since."""
        if self._contents is None:
            self._mirror.pull()
        return super().load()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the address."""
        with self._mirror.locked() as self._intact, super().lock():
            self._vanished = False
            try:
                yield
            finally:
                if not self._vanished:
                    self._send()

    def write_unit(self, evaluation: Evaluation, entries: Sequence[tuple[Record, NDArray[Any]]]) -> None:
        """See `ResultStore.write_unit`. What can't be sent is sent with the next unit, or at the end."""
        super().write_unit(evaluation, entries)
        self._push()

    def present(self) -> None:
        """See `ResultStore.present`; they must be at the address, too."""
        super().present()
        self._refuse_vanished()

    def _push(self) -> None:
        self._refuse_vanished()
        self._mirror.push()

    def _refuse_vanished(self) -> None:
        if not self._intact():
            self._vanished = True
            atexit.unregister(self._forget)
            raise Vanished(
                f"{self._mirror.address}: files in it were removed, or it was replaced, while a run was writing there; "
                f"what it held and what was to be written is in {self.root}"
            )

    def _send(self) -> None:
        try:
            self._push()
        except Vanished:
            raise
        except W2SError as error:
            atexit.unregister(self._forget)
            raise W2SError(f"{error}; what is lacking there is kept in {self.root}") from error

    def _forget(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
