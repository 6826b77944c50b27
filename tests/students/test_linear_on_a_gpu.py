"""What a linear student does on a GPU, as far as that shows without one: everything is on the device, nothing comes
back before its predictions do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmark.core.data import Problem, Recipe, Truth
from benchmark.core.guard import Guard
from benchmark.core.problems import training_data
from benchmark.core.steps import Work
from benchmark.students.frozen import LinearHead
from support.fake_cuda import fake_cuda

SEEDS, N, M = (0, 1), 40, 3


def problem(seed: int, K: int, pairs: bool) -> Problem:
    rng = np.random.default_rng(seed)
    sizes = {"train": N, "val": 5, "test": 10}
    shape = (2, 6) if pairs else (6,)
    zeros = {split: np.zeros(n, np.int64) for split, n in sizes.items()}
    return Problem(
        task="made-up",
        condition="ood",
        seed=seed,
        features={"own": {split: rng.normal(size=(n, *shape)).astype(np.float32) for split, n in sizes.items()}},
        soft_labels={split: np.full((n, M, K), 1 / K, np.float32) for split, n in sizes.items()},
        truth=Truth(zeros, zeros),
        fingerprint="made up",
        supervisors=("a", "b", "c"),
    )


@pytest.mark.parametrize(("K", "pairs", "streams"), [(2, False, 1), (5, False, 1), (2, True, 1), (5, False, 4)])
def test_a_step_and_predictions_stay_on_the_device(K: int, pairs: bool, streams: int) -> None:
    """All but the losses: autograd of fake tensors needs torch's ordinary build."""
    student: Any = LinearHead(None)
    with fake_cuda() as cuda:
        data, held_out = training_data(student, [problem(seed, K, pairs) for seed in SEEDS], "cuda")
        heads = data.student(data.features["own"], K, SEEDS, 4)
        labels = data.soft_labels if streams == 1 else data.soft_labels[:, :1].repeat(1, streams, 1, 1)
        work = Work([], heads, labels, streams > 1, Recipe(batch_size=8), 10, Guard(labels))
        minibatch = torch.zeros(len(SEEDS), streams, 8, dtype=torch.int64).to("cuda")
        cuda.forget()
        heads.fetch()
        given = work.forward(minibatch)
        assert given.logits.shape == (len(SEEDS), 4, 8, K)
        assert given.soft_labels.shape == (len(SEEDS), M if streams == 1 else streams, 8, K)
        gradients = heads.gradients(torch.ones_like(given.logits))
        (trained,) = heads.split([4])
        classes = trained.seed(0).predict(held_out["test"][0]).argmax(-1)
        state = work.adam.state().values()  # (its kernel knows no fake tensors)
        assert {t.device.type for t in (*vars(given).values(), *gradients, *state, classes)} == {"cuda"}
        assert (cuda.to_device, cuda.to_host) == ([], [])
