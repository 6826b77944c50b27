"""Training on the posterior of Dawid and Skene's model of annotators."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Supervision, product_grid, register_method
from methods._options import expect
from methods.ensemble import Ensemble

_LEAST = 1e-10  # of a probability inside EM, as in crowd-kit


@register_method
@dataclass(eq=False)
class DawidSkene(Ensemble):
    """CE(q, posterior): every supervisor is an annotator with a confusion matrix of its own, and EM over the hard votes
    argmax p_m of the train split, started at the vote shares, gives each example a posterior over classes.

    A class for which nobody votes has posterior 0. Each replica's EM sees its own votes only.

    Source: Dawid and Skene (1979), Applied Statistics 28(1), 20-28; EM by crowd-kit (Ustalov, Pavlichenko and
    Tseitlin 2024, JOSS 9(96), 6227), whose start, clipping and stop rule it has, and whose results.

    Args:
        iterations: at most so many rounds of EM.
        tolerance: EM stops when its objective, per vote, rises by less.
    """

    name = "dawid_skene"
    version = 1
    title = "Dawid-Skene"
    citation = "Dawid and Skene 1979; crowd-kit"
    family = "label model"
    grid = product_grid(iterations=(3,), learning_rate_times=(3,), epochs_times=(0.3,))

    iterations: int = 100
    tolerance: float = 1e-5

    def start(self, supervision: Supervision) -> None:
        expect(self, iterations="[0, inf)", tolerance="[-inf, inf)")
        super().start(supervision)

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        votes = soft_labels.max(-1).indices
        return posterior(votes, soft_labels.shape[-1], self.iterations, self.tolerance).to(soft_labels)


def posterior(votes: Tensor, num_classes: int, iterations: int, tolerance: float) -> Tensor:
    """Class ids (R, N, M) that M annotators give N examples -> the posterior over classes, (R, N, K) float64.

    Each of the R replicas is a data set of its own, with its own end. All are done at once, over their distinct votes.
    """
    (R, N, M), K = votes.shape, num_classes
    replica, voted, pattern = _distinct(votes, K)
    count = torch.bincount(pattern).double()[:, None]
    row = (replica[:, None] * M + torch.arange(M, device=votes.device)) * K + voted  # (P, M) of all confusion tables
    said = torch.bincount(row.flatten(), minlength=R * M * K).view(R, M, K, 1) > 0  # by the annotator, at least once
    known = said[..., 0].any(1)  # (R, K) classes that anybody votes for

    def maximise(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of posteriors (P, K): expected counts (R, M, K, K) of votes (rows) by class (columns), prior, error rates."""
        table = p.new_zeros(R * M * K, K)
        for rows in row.T:  # adds up in one order on a GPU as well, which `index_add_` does not
            table.index_put_((rows,), count * p, accumulate=True)
        table = table.view(R, M, K, K)
        errors = table.clamp_min(_LEAST) * said
        return table, table[:, 0].sum(1) / N, errors / errors.sum(2, keepdim=True)

    def expect(prior: Tensor, errors: Tensor) -> Tensor:
        logs = prior.clamp_min(_LEAST).log2().masked_fill(~known, -torch.inf)[replica]
        by_row = errors.view(-1, K).log2()
        for rows in row.T:
            logs = logs + by_row[rows]
        likelihood = torch.exp2(logs - logs.amax(1, keepdim=True))
        return likelihood / likelihood.sum(1, keepdim=True)

    ones = torch.ones_like(voted, dtype=torch.float64)
    result = ones.new_zeros(len(voted), K).scatter_add_(1, voted, ones) / M
    _, prior, errors = maximise(result)
    bound, going = prior.new_full((R,), -torch.inf), torch.ones(R, dtype=torch.bool, device=votes.device)
    for _ in range(iterations):
        p = expect(prior, errors)
        table, prior, errors = maximise(p)
        p = p.clamp_min(_LEAST) * known[replica]
        result = torch.where(going[replica][:, None], p, result)
        entropy = prior.new_zeros(R).index_put_((replica,), -(count * torch.xlogy(p, p)).sum(1), accumulate=True)
        joint = torch.xlogy(table, errors).sum((1, 2, 3)) + M * N * torch.xlogy(prior, prior.clamp_min(_LEAST)).sum(1)
        before, bound = bound, (joint + entropy) / (N * M)
        going = going & (bound - before >= tolerance)
        if not going.any():
            break
    return (result / result.sum(1, keepdim=True))[pattern].view(R, N, K)


def _distinct(votes: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """The P different rows (M,) of votes (R, N, M), each replica's apart: their replicas (P,) and votes (P, M), and
    which of them each example has, (R * N,)."""
    R, N, _ = votes.shape
    replica, voted = torch.arange(R, device=votes.device), votes.new_empty(R, 0)
    pattern = replica.repeat_interleave(N)
    for own in votes.flatten(0, 1).T:  # one annotator more
        distinct, pattern = torch.unique(pattern * num_classes + own, return_inverse=True)
        before, vote = distinct // num_classes, distinct % num_classes
        replica, voted = replica[before], torch.cat([voted[before], vote[:, None]], 1)
    return replica, voted, pattern
