"""Amazon reviews and CivilComments, of WILDS; the shift is the reviewer, or who is talked about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from benchmark.api import Inputs, Supervisor, TaskCard, register_task
from benchmark.students.language.student import LanguageModel
from benchmark.supervisors.language import FineTuned
from tasks._language import OPTIONS as LANGUAGE_OPTIONS
from tasks._language import LanguageTask
from tasks._shared import joined
from tasks._wilds import AMAZON, CIVILCOMMENTS, Index, open_dataset
from tasks._wilds_task import SUPERVISORS, WildsTask


class WildsTexts(LanguageTask, WildsTask):
    """Texts, held in memory by `wilds` itself. A language model with LoRA learns from smaller ones."""

    options: ClassVar[Mapping[str, str]] = {**LANGUAGE_OPTIONS, **WildsTask.options}

    def __init__(self, *shared: Any, **more: Any) -> None:
        super().__init__(*shared, **more)
        self.language_model = LanguageModel("classifier", len(self.card.classes), max_tokens=512)
        self.weak_model = FineTuned(objective="classifier", max_tokens=512)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        sources = self.card.sources * (SUPERVISORS // len(self.card.sources))
        return [Supervisor(self.weak_model, (source,), self.most(None)) for source in sources]

    def missing(self) -> str | None:
        return joined(WildsTask.missing(self), LanguageTask.missing(self))

    def inputs(self, rows: Index) -> tuple[Callable[[], Inputs], str]:
        """Texts; the hash is of the texts themselves."""
        dataset = open_dataset(self._data, self.root)
        texts = [dataset.get_input(row) for row in rows.tolist()]
        content = hashlib.sha256()
        for text in texts:
            content.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
        return lambda: texts, content.hexdigest()


_AMAZON = TaskCard(
    modality="text",
    shift="reviewers: 1,252 to others whom the supervisors have not seen",
    sources=(),
    target="",
    classes=("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
    metric="tenth_percentile_accuracy",
    licence="none given; its authors ask for research use only, so neither data nor what is made of them may be shared",
    redistribution="no licence is given for the reviews",
    citation="Ni, Li & McAuley 2019, Justifying Recommendations [...] and Fine-Grained Aspects; Koh et al. 2021, WILDS",
    requires="",
    size="539,502 reviews: train 245,502, test 100,050, id_test and id_val 46,950 each",
)
_CIVILCOMMENTS = TaskCard(
    modality="text",
    shift="who is mentioned: toxicity of comments, judged for each of eight identities (one distribution of comments)",
    sources=(),
    target="",
    classes=("not toxic", "toxic"),
    metric="worst_identity_accuracy",
    licence="CC0 1.0",
    citation="Borkan et al. 2019, Nuanced Metrics for Measuring Unintended Bias; Koh et al. 2021, WILDS",
    requires="",
    size="448,000 comments: train 269,038, test 133,782, val 45,180",
)


for _by_domain in (False, True):
    register_task(WildsTexts(AMAZON, _AMAZON, ("id_test", "id_val"), parts="reviewers", by_domain=_by_domain))
    register_task(
        WildsTexts(
            CIVILCOMMENTS,
            _CIVILCOMMENTS,
            ("val", "val"),
            parts="identities (gender and orientation, religion, race; comments that mention none are left out)",
            by_domain=_by_domain,
        )
    )
