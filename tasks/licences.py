"""What a licence allows, judged by a short text that names it; the shift is the kind of text.

Two kinds of texts are the sources of the third: tags ("License: BSD-3-Clause"), notices ("... may be used under the
terms of ...") and bare references ("http://opensource.org/licenses/ncsa"). Texts of the same words are there once over
all kinds, so no pool holds the twin of a source's text; licences are the same in all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.api import Domain, Supervisor, Task, TaskCard, missing_packages, numpy_rng, register_task
from benchmark.core.pools import FEW_SIZES
from benchmark.core.task import Modality
from benchmark.encoders.minilm import MiniLM
from benchmark.supervisors.classical import Classical
from benchmark.supervisors.tfidf import CharacterBradleyTerry, TfidfBradleyTerry
from tasks import _licences

UNDERCONFIDENT = 8.0  # the temperature of the most accurate supervisor of the task on references
RATINGS = (3.0, 1.0, 2.0, 4.0, 0.0)  # how much each of `_licences.CLASSES` permits


class _LicenceTask(Task):
    """Two kinds of texts to the third; subclasses give the cards' words, `labels` and `supervisors`."""

    encoder = MiniLM()
    train_sizes: tuple[int, ...] = FEW_SIZES
    source_share = 0.3  # supervisors see few examples, and the `ind` pool comes from the rest
    prefix: ClassVar[str]  # of tasks' names
    modality: ClassVar[Modality]
    classes: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]

    def __init__(self, target: str) -> None:
        self.name = f"{self.prefix}-to-{target}"
        sources = tuple(domain for domain in _licences.DOMAINS if domain != target)
        self.card = TaskCard(
            modality=self.modality,
            shift=f"kind of text: {' and '.join(_licences.DOMAINS[s] for s in sources)} to {_licences.DOMAINS[target]}",
            sources=sources,
            target=target,
            classes=self.classes,
            metric=self.metric,
            licence=_licences.LICENCE,
            citation=_licences.CITATION,
            requires=_licences.REQUIRES,
            size="1,500 tags, 1,800 notices and 2,200 references, at most 30 of a licence",
            family="licences",
        )

    def labels(self, classes: NDArray[np.int64]) -> NDArray[np.int64] | NDArray[np.float64]:
        """A domain's labels, of texts' classes (n,)."""
        raise NotImplementedError

    def domain(self, name: str) -> Domain:
        rules = _licences.licence_texts(name)
        texts = [rule.text for rule in rules]
        fingerprint = hashlib.sha256("\0".join([name, *texts]).encode()).hexdigest()
        classes = np.array([rule.label for rule in rules])
        return Domain(lambda: texts, self.labels(classes), np.arange(len(rules)), fingerprint)

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})


class Licences(_LicenceTask):
    """The category of the licence. Each source has a linear supervisor and one of another kind; budgets go by seed."""

    prefix = "licences"
    modality = "text"
    classes = _licences.CLASSES
    metric = "balanced_accuracy"

    def labels(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        return classes

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        first, second = self.card.sources
        linear, neighbours, forest = numpy_rng("licences", self.card.target, seed).permuted((100, 200, 400)).tolist()
        temperature = UNDERCONFIDENT if self.card.target == "reference" else 1.0
        return [
            Supervisor(Classical("characters", "logistic", temperature), (first,), linear),
            Supervisor(Classical("words", "neighbours"), (first,), neighbours),
            Supervisor(Classical("words", "forest"), (second,), forest),
            Supervisor(Classical("words", "boosting"), (second,), 150),
        ]


class LicencePreference(_LicenceTask):
    """Which of two texts permits more: public domain, then permissive, weak copyleft, copyleft, proprietary."""

    prefix = "licence-preference"
    modality = "preference"
    classes = ("first preferred", "second preferred")
    metric = "accuracy"

    def labels(self, classes: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array(RATINGS)[classes]

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        sizes = numpy_rng("licence preference", self.card.target, seed).permuted((6, 12, 25, 50)).tolist()
        models = (TfidfBradleyTerry(), CharacterBradleyTerry())
        kinds = [(source, model) for source in self.card.sources for model in models]
        return [Supervisor(model, (source,), size) for (source, model), size in zip(kinds, sizes, strict=True)]


for _target in _licences.DOMAINS:
    register_task(Licences(_target))
    register_task(LicencePreference(_target))
