"""HH-RLHF: which of two replies of an assistant people chose; the shift is what they were asked to look for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from benchmark.api import Domain, Supervisor, TaskCard, W2SError, register_task
from benchmark.students.language.student import LanguageModel
from benchmark.supervisors.language import FineTuned
from tasks import _hh
from tasks._language import POLICY_OPTIONS, LanguageTask
from tasks._shared import joined


class HH(LanguageTask):
    """Reward models, trained on one kind of preferences, judge pairs of the other; a policy learns from them by DPO."""

    options: ClassVar[Mapping[str, str]] = {
        **POLICY_OPTIONS,
        "hh_data": "a folder of jsonl.gz files, or a hub id; default: hh-rlhf in W2S_DATA, else Anthropic/hh-rlhf",
    }
    language_model = LanguageModel("policy")
    weak_model = FineTuned(objective="reward")
    hh_data: str | None = None

    def __init__(self, source: str, target: str) -> None:
        self.disk = 4e7
        self.name = f"hh-{source}-to-{target}"
        self.card = TaskCard(
            modality="preference",
            shift=f"what people were asked to prefer: {source} to {target} replies",
            sources=(f"{source}-base",),
            target=f"{target}-base",
            classes=("first preferred", "second preferred"),
            metric="accuracy",
            licence="MIT",
            citation="Bai et al. 2022, arXiv:2204.05862",
            requires="the extra [lm], and Anthropic/hh-rlhf from the hub or a local folder (--set hh_data=FOLDER)",
            size="about 46,000 helpful and 45,000 harmless pairs (2,352 and 2,312 of them in the test splits); 40 MB",
            family="hh",
        )

    def configured(self, options: Mapping[str, Any]) -> Self:
        """As other language tasks, and `hh_data`."""
        task = super().configured(options)
        if "hh_data" in options:
            if not isinstance(options["hh_data"], str):
                raise W2SError(f"option hh_data={options['hh_data']}: expected a folder or a hub id")
            task.hh_data = options["hh_data"]
        return task

    def domain(self, name: str) -> Domain:
        pairs = _hh.read(self.hh_data, name)
        return Domain(lambda: pairs.replies, pairs.labels, pairs.groups, pairs.fingerprint, paired=True)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        return [Supervisor(self.weak_model, self.card.sources, self.most(None)) for _ in range(3)]

    def missing(self) -> str | None:
        return joined(_hh.missing(self.hh_data, (*self.card.sources, self.card.target)), super().missing())


register_task(HH("helpful", "harmless"))
register_task(HH("harmless", "helpful"))
