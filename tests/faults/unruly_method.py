"""A plug-in: a method that learns as it should, and does what it should not, by `W2S_TEST_UNRULY`."""

import os
import random
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Batch, Method, Supervision, cross_entropy, register_method

WAY = os.environ.get("W2S_TEST_UNRULY", "")


@register_method
@dataclass(eq=False)
class Unruly(Method):
    """CE(q, mean p)."""

    name = "unruly"
    title = citation = "test"
    kind = "ensemble"

    def start(self, supervision: Supervision) -> None:
        if WAY == "forks":
            os.fork()  # a copy of the process that goes on as if it were it

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if WAY == "prints":
            print("printed by a plug-in")
            print("said by a plug-in", file=sys.stderr)
        if WAY == "exits" and batch.progress > 0.5:
            sys.exit(5)
        if WAY == "seeds":
            random.seed(1)
            np.random.seed(1)  # noqa: NPY002
            torch.manual_seed(1)
        if WAY == "draws":
            random.random(), np.random.random(), torch.rand(3)  # noqa: NPY002
        return cross_entropy(logits, batch.soft_labels.mean(2))
