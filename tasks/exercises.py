"""Physiotherapy exercises from a smartwatch; the shift is the arm that wears it. Supervisors differ in budget and
learner."""

from __future__ import annotations

import functools
import hashlib
import pickletools
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.api import Domain, Supervisor, Task, TaskCard, W2SError, fetch_wheel, missing_packages, register_task
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.rocket import Rocket
from benchmark.supervisors.classical import Classical, Reads
from benchmark.supervisors.fitted import Fitted

ARMS = {"right": 1, "left": 0}
EXERCISES = (
    "pendulum",
    "abduction",
    "forward elevation",
    "internal rotation",
    "external rotation",
    "trapezius extension",
    "upright row",
)  # in the order of the file's PEN, ABD, FEL, IR, ER, TRAP, ROW
WINDOW, STEP = 200, 50  # samples at 50 Hz: 4 s, one each second
_PREPARATION = 1  # raise when series, labels or groups come out otherwise
_FILE = "seglearn/data/watch_dataset.npy"
_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
_RECORDINGS = 140


@dataclass(frozen=True)
class Accelerometer(Classical):
    """A watch without a gyroscope: it reads the three accelerations of six channels."""

    reads: Reads = "moments"
    name: ClassVar[str] = "tasks.exercises.Accelerometer"
    version: ClassVar[int] = 1

    def fit(self, inputs: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int, seed: int) -> Fitted:
        fitted = super().fit(inputs[..., :3], labels, num_classes, seed)
        return Fitted(lambda series: fitted.predict_proba(series[..., :3]))


class Exercises(Task):
    """One arm to the other.

    Splits and source parts are by recording, one of each person, exercise and arm, since windows of one overlap. The
    same ten persons wore the watch on either arm, so whom a pool shows has been seen by supervisors, on the other arm.
    """

    encoder = Rocket()
    train_sizes = FEW_SIZES
    conditions = ("ood",)  # held-out source data are 28 recordings, too few to teach a student

    def __init__(self, source: str, target: str) -> None:
        self.name = f"exercises-to-{target}"
        self.card = TaskCard(
            modality="series",
            shift=f"the arm that wears the watch: {source} to {target}",
            sources=(source,),
            target=target,
            classes=EXERCISES,
            metric="balanced_accuracy",
            licence="BSD-3-Clause (the package, data included)",
            citation="Burns et al. 2018, Shoulder physiotherapy exercise recognition, arXiv:1802.01489; Burns & Whyne "
            "2018, Seglearn, JMLR 19",
            requires="package scikit-learn; the wheel of seglearn 1.2.5 (11 MB, fetched once with pip)",
            size="4,378 windows of 4 s (6 channels, 50 Hz) of 140 recordings, 70 an arm, of 10 persons",
            family="exercises",
        )

    def domain(self, name: str) -> Domain:
        return _domain(name)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        models = (
            (Accelerometer(), 20),
            (Accelerometer(learner="neighbours"), 60),
            (Accelerometer(learner="forest"), 30),
            (Accelerometer(learner="boosting"), 120),
        )
        return [Supervisor(model, self.card.sources, size) for model, size in models]

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn"})


@functools.cache
def _domain(arm: str) -> Domain:
    series, labels, persons, sides = _recordings()
    own = [i for i, side in enumerate(sides) if side == ARMS[arm]]
    starts = [range(0, len(series[i]) - WINDOW + 1, STEP) for i in own]
    counts = [len(at) for at in starts]
    fingerprint = hashlib.sha256(f"{arm}|{_PREPARATION}|{WINDOW}|{STEP}|{_SHA256}".encode()).hexdigest()

    def load() -> NDArray[np.float32]:
        windows = [series[i][at : at + WINDOW] for i, places in zip(own, starts, strict=True) for at in places]
        return np.stack(windows).astype(np.float32)

    return Domain(
        load,
        np.repeat(labels[own], counts),
        np.repeat(own, counts),
        fingerprint,
        score_groups=np.repeat(persons[own], counts),  # resampled are persons: their recordings are alike
    )


@functools.cache
def _recordings() -> tuple[list[NDArray[np.float64]], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Series (time, 6) of accelerations and rotations; exercise, person and side of each."""
    path = fetch_wheel(
        package="seglearn",
        version="1.2.5",
        sha256="ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
        licence="BSD-3-Clause",
        size="11 MB",
    )
    with zipfile.ZipFile(path) as wheel:
        data = wheel.read(_FILE)
    if (found := hashlib.sha256(data).hexdigest()) != _SHA256:
        raise W2SError(f"{_FILE}: SHA-256 {found}, expected {_SHA256}")
    *series, labels, persons, sides = _arrays(data)
    if len(series) != _RECORDINGS:
        raise W2SError(f"{_FILE}: {len(series)} recordings, expected {_RECORDINGS}")
    made = [np.frombuffer(raw).reshape((-1, 6), order="F" if fortran else "C") for fortran, raw in series]
    exercises, people = (np.frombuffer(raw, np.int64) for _, raw in (labels, persons))
    return made, exercises, people, np.frombuffer(sides[1]).astype(np.int64)  # the only one in float64


def _arrays(npy: bytes) -> Iterator[tuple[bool, bytes]]:
    """The arrays' memory in a NumPy file that is a pickle, and whether it is in Fortran's order, one after the other.

    The file is taken apart, not unpickled: nothing in it is run. Protocol 2 has an array's bytes as a string in
    Latin-1, after a truth value for the order; other strings in it are short.
    """
    fortran = False
    for operation, argument, _ in pickletools.genops(npy[npy.index(b"\n") + 1 :]):
        if operation.name in ("NEWTRUE", "NEWFALSE"):
            fortran = operation.name == "NEWTRUE"
        elif operation.name == "BINUNICODE" and isinstance(argument, str) and len(argument) >= 8 * _RECORDINGS:
            yield fortran, argument.encode("latin-1")


register_task(Exercises("right", "left"))
register_task(Exercises("left", "right"))
