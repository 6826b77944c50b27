"""The one place that writes results: a suite's folder, whose files `layout` names.

While a unit is written, `.unit.safetensors` holds all of it, as the folder's files would have it.

Each file is replaced atomically: the evaluation first, then per method the predictions before the records. So a kill
leaves at worst predictions without a record, which count for nothing. The next run writes the unit to its end: to train
a part of its methods anew could give others in the last digit, as those that train together share their products.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from benchmark.base.errors import Vanished, W2SError
from benchmark.base.files import atomic_write, remove_temporaries, sync_folder
from benchmark.base.notices import notice
from benchmark.core.records import Evaluation, Record, RecordKey, Versions, compact
from benchmark.results.contents import Contents, read_contents, read_unit
from benchmark.results.layout import OLDER, PREDICTIONS, RECORDS, array_name, truth_file
from benchmark.results.lines import reason

_LOCK, _UNIT = ".lock", ".unit.safetensors"


def results_folder(text: str) -> Path:
    """The folder that `--results` names.

    Raises:
        W2SError: it is an address.
    """
    if "://" in text:
        raise W2SError(
            f"--results {text}: expected a folder of this machine; run into one, then copy it there with `aws s3 sync` "
            "or `rclone sync`"
        )
    return Path(text)


class ResultStore:
    """Reads and writes one suite's folder. Contents are read once and kept; `lock` reads them anew.

    Args:
        root: `results/<suite>` or `runs/<suite>`; need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.revision = 0  # raised with every change of the contents
        self._contents: Contents | None = None
        self._locked: tuple[int, int] | None = None  # which file the lock is
        self._folder: int | None = None  # the root, open while it is locked

    def load(self) -> Contents:
        """The folder's contents; what can't be read is in `problems` and doesn't stop the rest."""
        return self._read_anew() if self._contents is None else self._contents

    @property
    def older(self) -> str | None:
        """What the folder says of itself, on one line, if its records are of an older protocol and stay as they are."""
        path = self.root / OLDER
        return " ".join(path.read_text(encoding="utf-8").split()) if path.is_file() else None

    def require_current(self, what: str) -> None:
        """Refuse what can't be done with results of an older protocol.

        Args:
            what: that, as the end of a sentence.

        Raises:
            W2SError: they are of one; the message says what of.
        """
        if self.older is not None:
            raise W2SError(f"{self.root} is of an older protocol, so {what}: {self.older}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the folder; what a killed run was writing is finished. The lock dies with its process.

        Raises:
            W2SError: another run has it, or nothing can be written here.
        """
        with self._writable():
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / _LOCK)
            lock.acquire(timeout=0)
        try:
            with self._writable():
                self._contents = None
                self._folder = os.open(self.root, os.O_RDONLY)
                self._locked = _identity(self.root / _LOCK)
                remove_temporaries(self.root)
                self._finish()
            yield
        finally:
            if self._folder is not None:
                os.close(self._folder)
            self._locked = self._folder = None
            lock.release()

    def complete(self, key: RecordKey, versions: Versions, data_fingerprint: str, source: str | None = None) -> bool:
        """Whether this result is here, with its predictions and evaluation, made by these versions from these data, and
        from this source of the method, as far as that is known."""
        record = self.load().records.get(key)
        if record is None or (record.versions, record.data_fingerprint) != (versions, data_fingerprint):
            return False
        if not record.of_source(source):
            return False
        return self.load().misfit(record) is None

    def write_unit(self, evaluation: Evaluation, entries: Sequence[tuple[Record, NDArray[Any]]]) -> None:
        """Add the results of one (task, condition), replacing records of the same key; all else stays.

        Seeds of an evaluation are merged with those that are there, unless versions or data differ: then the old
        ones are dropped, and so are records and predictions that can't be read.

        Args:
            entries: records and their predictions (replicas, n). Call it while holding `lock`.

        Raises:
            OSError: it could not be written, or not wholly; what is there is sound.
            Vanished: files that were here are gone.
            W2SError: an entry that is not of this unit or does not fit, or that would spoil others.
        """
        self.present()
        finished = False
        with contextlib.suppress(OSError):  # there is no room for that one, perhaps for this one
            self._finish()
            finished = True
        self._write_unit(evaluation, entries, as_a_whole=finished)

    def drop(self, keys: Sequence[RecordKey]) -> None:
        """Remove these records and their predictions. Call it while holding `lock`.

        Raises:
            Vanished: files that were here are gone.
        """
        contents = self.present()
        self.revision += 1
        for key in keys:
            del contents.records[key]
            contents.predictions.pop(key, None)
        self._write(_files_of(sorted({key.method for key in keys}), contents))

    def _write_unit(
        self, evaluation: Evaluation, entries: Sequence[tuple[Record, NDArray[Any]]], as_a_whole: bool = True
    ) -> None:
        contents, new = self.load(), self.check_unit(evaluation, entries)
        methods = sorted({record.method for record, _ in entries})
        truth = {truth_file(*unit): _evaluation_bytes(found) for unit, found in new.evaluations.items()}
        try:
            if as_a_whole:
                own = truth | dict(_files_of(methods, new))
                self._write([(_UNIT, save({name: np.frombuffer(data, np.uint8) for name, data in own.items()}))])
            self._write(truth.items())
            self.revision += 1
            contents.evaluations |= new.evaluations
            contents.records |= new.records
            contents.predictions |= new.predictions
            self._write(_files_of(methods, contents))
            if as_a_whole:
                self._forget_unit()
        except OSError:  # a full disk: what is here is what got there
            self._read_anew()
            self.present()
            raise

    def check_unit(self, evaluation: Evaluation, entries: Sequence[tuple[Record, NDArray[Any]]]) -> Contents:
        """What the unit holds, its evaluation with the seeds that are there.

        Raises:
            W2SError: what `write_unit` would of what it is given.
        """
        contents, unit = self.load(), (evaluation.task, evaluation.condition)
        old = contents.evaluations.get(unit)
        if old is not None and old.same_data(evaluation):
            evaluation = evaluation.model_copy(update={"seeds": {**old.seeds, **evaluation.seeds}})

        new = Contents(evaluations={unit: evaluation})
        for record, predictions in entries:
            if (record.task, record.condition) != unit:
                raise W2SError(f"{record.key}: found in the unit {unit[0]}/{unit[1]}")
            if record.key in new.records:
                raise W2SError(f"{record.key}: found twice in one unit")
            new.records[record.key], new.predictions[record.key] = record, compact(predictions)
            if reason := new.misfit(Record.model_validate_json(record.to_line())):
                raise W2SError(f"{record.key}: {reason}")

        self._refuse_orphans(evaluation, new)
        return new

    def _finish(self) -> None:
        """Write the unit that a kill or a full disk has stopped at, if there is one."""
        path = self.root / _UNIT
        if not path.exists():
            return
        try:
            unit = read_unit(path)
            (evaluation,) = unit.evaluations.values()
            self._write_unit(evaluation, [(record, unit.predictions[key]) for key, record in unit.records.items()])
        except Vanished:
            raise
        except (ValueError, KeyError, SafetensorError, W2SError) as error:
            notice(f"{path}: a unit that was being written is of no use any more: {reason(error)}")
            self._forget_unit()

    def _forget_unit(self) -> None:
        sync_folder(self._at(""), self._folder)  # with new methods' folders
        os.unlink(self._at(_UNIT), dir_fd=self._folder)

    def _read_anew(self) -> Contents:
        self.revision += 1
        self._contents = read_contents(self.root)
        return self._contents

    def present(self) -> Contents:
        """The contents, whose files are still there: what is written beside them must not refer to lost ones.

        Raises:
            Vanished: some are gone.
        """
        contents = self.load()
        expected = [truth_file(*unit) for unit in contents.evaluations]
        expected += [f"{method}/{RECORDS}" for method in {key.method for key in contents.records}]
        own_lock = self._locked in (None, _identity(self.root / _LOCK))
        if not own_lock or not all((self.root / name).exists() for name in expected):
            raise Vanished(f"{self.root}: files in it were removed, or it was replaced, while a run was writing there")
        return contents

    def _refuse_orphans(self, evaluation: Evaluation, new: Contents) -> None:
        """Results that stay must not lose the evaluation they were scored against to one made elsewhere."""
        contents = self.load()
        orphans = [
            key
            for key, record in contents.records.items()
            if (key.task, key.condition) == (evaluation.task, evaluation.condition)
            and key not in new.records
            and key.seed in evaluation.seeds
            and (record.task_version, record.data_fingerprint) == (evaluation.task_version, evaluation.data_fingerprint)
            and evaluation.seeds[key.seed].sha256 != record.evaluation_sha256
            and contents.misfit(record) is None
            and contents.evaluations[record.task, record.condition].whole
            == evaluation.whole  # else it is of no use now
        ]
        if orphans:
            raise W2SError(
                f"{evaluation.task} ({evaluation.condition}): the supervisors' predictions differ from those that "
                f"{len(orphans)} results in {self.root} were made with (another machine, or other library versions?); "
                "nothing was written: run all its methods again with --force, or name another folder with --results"
            )

    def _write(self, files: Iterable[tuple[str, bytes]]) -> None:
        for name, data in files:
            atomic_write(self._at(name), data, self._folder)

    def _at(self, name: str) -> Path:
        """A file of this folder: while it is locked, of the one that was locked, wherever it is now."""
        return (self.root if self._folder is None else Path()) / name

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except Timeout:
            raise W2SError(
                f"{self.root}: another run is writing here; wait until it ends, or name another folder with --results"
            ) from None
        except OSError as error:
            raise W2SError(f"{self.root}: results can't be written here: {error}") from error


def _files_of(methods: Sequence[str], contents: Contents) -> Iterator[tuple[str, bytes]]:
    for method in methods:
        own = [record for key, record in contents.records.items() if key.method == method]
        yield from ((f"{method}/{name}", data) for name, data in method_files(own, contents.predictions).items())


def method_files(records: Iterable[Record], predictions: Mapping[RecordKey, NDArray[Any]]) -> dict[str, bytes]:
    """The files of a method's folder, from its records and class ids; in the order in which they are written."""
    records = sorted(records, key=lambda record: record.key)
    arrays = {array_name(record.key): predictions[record.key] for record in records if record.key in predictions}
    return {PREDICTIONS: save(arrays), RECORDS: "".join(f"{record.to_line()}\n" for record in records).encode()}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _small(values: NDArray[np.int64]) -> NDArray[Any]:
    """In an integer type that just holds them; `compact` is for what is never negative."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return values.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))


def _evaluation_bytes(evaluation: Evaluation) -> bytes:
    arrays: dict[str, NDArray[Any]] = {}
    for seed, truth in sorted(evaluation.seeds.items()):
        arrays[f"{seed}/labels"] = _small(truth.labels)
        arrays[f"{seed}/groups"] = _small(truth.groups)
        arrays[f"{seed}/supervisors"] = compact(truth.supervisors)
        arrays[f"{seed}/ensemble"] = compact(truth.ensemble)
        arrays[f"{seed}/majority"] = np.array(truth.majority, np.int32)
        if truth.splits is not None:
            arrays[f"{seed}/splits"] = truth.splits
    # One entry only: safetensors writes several in no fixed order.
    return save(arrays, metadata={"evaluation": json.dumps(evaluation.model_dump(mode="json"), sort_keys=True)})
