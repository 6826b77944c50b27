"""Weights of supervisors from what their votes have in common beyond chance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import hard, product_grid, register_method
from methods._agreement import agreement_beyond_chance, leading_eigenvector, rank_one_diagonal
from methods.ensemble import Ensemble


@register_method
@dataclass(eq=False)
class Spectral(Ensemble):
    """CE(q, sum_m w_m v_m), v_m the one-hot votes, w proportional to max(u, 0), u the leading eigenvector of the votes'
    agreement beyond chance, sum_c Cov(votes of m for c, votes of n for c), with the diagonal that makes its rank one.

    With errors independent given the class and two classes, u_m is proportional to m's balanced accuracy less one half,
    and the weighted vote a linear approximation of the most likely class.

    Source: the spectral meta-learner of Parisi, Strino, Nadler and Kluger (2014), PNAS 111(4), 1253-1258,
    arXiv:1303.3257 (abstract, and code of the authors' laboratory, whose diagonal this is but for its bound). This
    project's: more than two classes, by the sum; no vote counts negatively, as with more than two classes its opposite
    is no class; the target is the share, not its sign.

    Args:
        sharpen: the target is the class of the largest share, as in the paper.
    """

    name = "spectral"
    version = 1
    title = "Spectral meta-learner"
    citation = "Parisi et al. 2014, PNAS; arXiv:1303.3257"
    family = "label model"
    min_supervisors = 3  # two who contradict one another leave no direction
    grid = product_grid(sharpen=(True,), learning_rate_times=(3,), epochs_times=(0.3,))

    sharpen: bool = False

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        votes = hard(soft_labels)
        common = agreement_beyond_chance(votes)
        diagonal = rank_one_diagonal(common, 1 - votes.double().mean(1).square().sum(-1))
        w = leading_eigenvector(common + torch.diag_embed(diagonal)).clamp_min(1e-8)
        self.weights = (w / w.sum(-1, keepdim=True)).to(soft_labels)
        target = (self.weights[:, None, :, None] * votes).sum(2)
        return hard((1e4 * target).round()) if self.sharpen else target  # equal but for rounding is a tie

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights}
