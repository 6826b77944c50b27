"""What tasks with a language model as student share: its options, and what is missing without the extra."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

from benchmark.api import Task, W2SError
from benchmark.assets.pretrained import model_missing
from benchmark.students.language.student import LanguageModel
from benchmark.supervisors.language import FineTuned
from tasks._shared import joined

OPTIONS = {
    "model": "the student: a packaged model's name, a hub id or a local folder",
    "supervisor_model": "the weak language models, likewise",
    "blocks": "how many of the last blocks are trained; null for all",
    "rank": "of LoRA",
    "alpha": "of LoRA",
    "max_tokens": "of a text, or of prompt and reply together",
    "max_pool": "largest pool; null for all there is",
    "max_train": "largest train split; null for all",
    "supervisor_tokens": "as max_tokens, for the supervisors",
    "supervisor_learning_rate": "of the supervisors' training",
    "supervisor_epochs": "likewise",
    "supervisor_batch_size": "likewise",
    "supervisor_examples": "most training examples of a supervisor; null for all",
    "micro_batch": "examples in memory at a time",
    "checkpointing": "recompute activations, to save memory",
}
POLICY_OPTIONS = {
    **OPTIONS,
    "beta": "of DPO",
    "preference_loss": "soft, or margin (RAVEN's released form of DPO)",
}
# option -> field of the supervisors' recipe
_OF_SUPERVISORS = {
    "supervisor_model": "model",
    "supervisor_tokens": "max_tokens",
    "supervisor_learning_rate": "learning_rate",
    "supervisor_epochs": "epochs",
    "supervisor_batch_size": "batch_size",
}
_OF_TASK = {"max_pool", "max_train", "supervisor_examples"}  # the rest are the student's
_KINDS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "supervisor_model": (str,),
    "preference_loss": (str,),
    "checkpointing": (bool,),
    "beta": (float, int),
    "supervisor_learning_rate": (float, int),
}
_MAY_BE_NONE = {"blocks", "max_pool", "max_train", "micro_batch", "supervisor_examples"}


class LanguageTask(Task):
    """A task whose student and supervisors are language models.

    Subclasses set `language_model` and `weak_model`, and give supervisors of `self.weak_model` and `self.most(size)`.
    """

    version = 1
    options: ClassVar[Mapping[str, str]] = OPTIONS
    train_sizes: tuple[int, ...] = ()
    max_train: int | None = None
    supervisor_examples: int | None = None
    language_model: LanguageModel
    weak_model: FineTuned

    @property
    def student(self) -> LanguageModel:
        """The language model, frozen but for adapters."""
        return self.language_model

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The same task with other models or sizes."""
        known = POLICY_OPTIONS.keys() & self.options.keys()  # a subclass may have others
        mine = {name: value for name, value in options.items() if name in known}
        for name, value in mine.items():
            _check(name, value)
        task = cast(Self, copy.copy(super().configured(options)))
        student = {name: value for name, value in mine.items() if name not in {*_OF_SUPERVISORS, *_OF_TASK}}
        task.language_model = replace(self.language_model, **student)
        weak = {_OF_SUPERVISORS[name]: value for name, value in mine.items() if name in _OF_SUPERVISORS}
        task.weak_model = replace(self.weak_model, **weak)
        for name in sorted(_OF_TASK):
            setattr(task, name, mine.get(name, getattr(self, name)))
        return task

    def most(self, size: int | None) -> int | None:
        """A supervisor's training size, cut to `supervisor_examples`."""
        sizes = [n for n in (size, self.supervisor_examples) if n is not None]
        return min(sizes, default=None)

    def missing(self) -> str | None:
        models = (self.language_model.model, self.weak_model.model)
        return joined(*(model_missing(model) for model in models))


def _check(name: str, value: Any) -> None:
    kinds = _KINDS.get(name, (int,))
    if value is None and name in _MAY_BE_NONE:
        return
    wrong_number = isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < math.inf
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds) or wrong_number:
        expected = " or ".join(kind.__name__ for kind in kinds) + (" or null" if name in _MAY_BE_NONE else "")
        raise W2SError(f"option {name}={value}: expected {expected}{', positive' if wrong_number else ''}")
    if name == "preference_loss" and value not in ("soft", "margin"):
        raise W2SError(f"option preference_loss={value}: expected soft or margin")
