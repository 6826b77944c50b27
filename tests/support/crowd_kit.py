"""Dawid and Skene's EM by crowd-kit, of which ours is to have the results."""

from __future__ import annotations

import warnings

import pandas as pd
import torch
from crowdkit.aggregation import DawidSkene
from torch import Tensor


def crowd_kit(votes: Tensor, num_classes: int, iterations: int, tolerance: float) -> Tensor:
    """Class ids (R, N, M) -> the posterior over classes, (R, N, K) float64, of each of the R apart."""
    _, N, M = votes.shape
    found = []
    for own in votes:
        table = pd.DataFrame(
            {
                "task": torch.arange(N).repeat_interleave(M).numpy(),
                "worker": torch.arange(M).repeat(N).numpy(),
                "label": own.flatten().numpy(),
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # crowd-kit's calls of pandas
            posterior = DawidSkene(n_iter=iterations, tol=tolerance).fit_predict_proba(table)
        posterior = posterior.reindex(index=range(N), columns=range(num_classes), fill_value=0.0)
        rows = torch.from_numpy(posterior.to_numpy(copy=True))
        found.append(rows / rows.sum(-1, keepdim=True))  # crowd-kit clips at 1e-10 after normalising
    return torch.stack(found)


def random_votes(R: int, N: int, M: int, K: int, right: float, seed: int) -> Tensor:
    """Class ids (R, N, M) of annotators who know the class with this probability, and else guess."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(K, (R, N, 1), generator=rng)
    guess = torch.randint(K, (R, N, M), generator=rng)
    return torch.where(torch.rand(R, N, M, generator=rng) < right, truth, guess)
