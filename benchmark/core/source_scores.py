"""How often each supervisor is right on its sources: what is known before any target example is labelled."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Domain, Pool
from benchmark.core.task import Task


def source_scores(
    task: Task, domains: Mapping[str, Domain], pool: Pool, soft_labels: NDArray[np.float32], seed: int
) -> NDArray[np.float32]:
    """(M,) accuracies on the validation split of the in-distribution `pool` of this seed.

    Each supervisor's is on the examples of the domains that it learned from; where the split has none of these (a task
    whose pool is a domain of held-out source data), on the whole split. No supervisor was trained on any of it.

    Args:
        soft_labels: (n, M, K) what they say of the split, as they would answer in a pool: rotated, corrupted.
    """
    examples = pool.examples["val"]
    ends = np.cumsum([domains[name].num_inputs for name in pool.domains])
    place = np.searchsorted(ends, examples.reshape(len(examples), -1)[:, 0], side="right")  # pairs are of one domain
    learned = np.array([[name in own.domains for name in pool.domains] for own in task.supervisors(seed)])
    asked = learned[:, place].T  # (n, M)
    asked |= ~asked.any(0)
    right = soft_labels.argmax(-1) == pool.labels["val"][:, None]
    return np.asarray((right & asked).sum(0) / asked.sum(0), np.float32)
