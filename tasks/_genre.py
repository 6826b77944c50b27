"""Tasks on rated texts: three genres to the fourth. Supervisors differ in genre and in how much they have seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from benchmark.api import Supervisor, TaskCard, WeakModel, missing_packages, numpy_rng
from benchmark.core.pools import FEW_SIZES
from benchmark.core.task import Modality
from benchmark.encoders.minilm import MiniLM
from tasks import _vader
from tasks._shared import Breakable


class GenreTask(Breakable):
    """Subclasses say what is judged (`prefix`, the card's words) and by which weak model, and give the labels."""

    version = 2
    encoder = MiniLM()
    train_sizes: tuple[int, ...] = FEW_SIZES
    rated_texts = staticmethod(_vader.some_rated_texts)  # domain -> its texts and ratings
    texts: ClassVar[str] = "16,326 texts"
    prefix: ClassVar[str]  # of tasks' names
    modality: ClassVar[Modality]
    classes: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    selection: ClassVar[str]
    weak_model: WeakModel
    sizes: ClassVar[tuple[int | None, ...]] = (150, 1000, None)  # training examples, dealt to the sources by seed

    def __init__(self, target: str) -> None:
        self.name = f"{self.prefix}-to-{target}"
        sources = tuple(domain for domain in _vader.DOMAINS if domain != target)
        self.card = TaskCard(
            modality=self.modality,
            shift=f"genre: {', '.join(sources)} to {target}",
            sources=sources,
            target=target,
            classes=self.classes,
            metric=self.metric,
            licence=_vader.LICENCE,
            citation=_vader.CITATION,
            requires=_vader.REQUIRES,
            size=f"{self.texts} of four genres, {self.selection}",
            family="sentiment",
        )

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        dealt = numpy_rng("sizes", self.prefix, self.card.target, seed).permutation(len(self.sizes))
        supervisors = [
            Supervisor(self.weak_model, (source,), self.most(self.sizes[i]))
            for source, i in zip(self.card.sources, dealt, strict=True)
        ]
        return self.break_one(supervisors)

    def most(self, size: int | None) -> int | None:
        """A supervisor's training size."""
        return size

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})
