"""Training without recordings, also on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmark.core import training
from benchmark.core.data import Recipe
from benchmark.core.method import Method
from benchmark.core.steps import EagerStep
from benchmark.core.training import Trained, TrainingData


def train_by_python(methods: Sequence[Method], data: TrainingData, recipe: Recipe) -> list[Trained]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "steps_of", lambda work, recorder: EagerStep(work))
        return training.train(methods, data, recipe)
