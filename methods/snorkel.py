"""Training on the posterior of Snorkel's label model, which is fitted to how often supervisors agree."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Supervision, hard, product_grid, register_method
from methods._options import expect
from methods.ensemble import Ensemble
from methods.flyingsquid import check_balance, class_shares

_RATE, _MOMENTUM, _PRECISION = 0.01, 0.9, 0.7


@register_method
@dataclass(eq=False)
class Snorkel(Ensemble):
    """CE(q, posterior): l_i in {0, 1}^(M K) are an example's votes, O = mean_i l_i l_iᵀ, mu (M K, K) = P(vote | class).

    mu minimises |(O - mu P muᵀ) between different supervisors|² + |mu P 1 - diag O|², P = diag(P(class)), by gradient
    steps of 0.01 with momentum 0.9, from 0.7 O_jj / P(class), at most 1, where j is a vote for that class, and 0
    elsewhere. It is clamped to [e, 1 - e], e = min(0.01, 10^-ceil(log10 N)); the posterior is proportional to
    P(class) prod_m mu[vote of m, class].

    Source: MeTaL, Ratner, Hancock, Dunnmon, Sala, Pandey and Re, AAAI 2019, arXiv:1810.02840; `LabelModel` of snorkel
    0.10, whose settings and results it has, but for two things: the release multiplies the start by one random number,
    and in the end permutes classes of equal P so that votes for them are right most often. There are no abstentions.

    Args:
        steps: number of gradient steps.
        balance: P(class): `uniform`, or `votes`, the classes' shares of all votes.
    """

    name = "snorkel"
    version = 1
    title = "Snorkel (MeTaL)"
    citation = "Ratner et al. 2019, arXiv:1810.02840"
    family = "label model"
    min_supervisors = 3  # as in the release
    grid = product_grid(steps=(1000,), balance=("votes",), epochs_times=(0.3,))

    steps: int = 100
    balance: str = "uniform"

    def start(self, supervision: Supervision) -> None:
        check_balance(self.name, self.balance)
        expect(self, steps="[0, inf)")
        super().start(supervision)

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        votes = hard(soft_labels).double()
        P = class_shares(votes, self.balance)
        N = votes.shape[1]
        least = min(0.01, 10.0 ** -len(str(N - 1)))  # N - 1 has ceil(log10 N) digits
        mu = fit(votes, P, self.steps).clamp(least, 1 - least)
        logits = votes.flatten(2) @ mu.log() + P.clamp_min(1e-10).log()[:, None]
        return logits.softmax(-1).to(soft_labels)


def fit(votes: Tensor, P: Tensor, steps: int) -> Tensor:
    """mu (R, M * K, K) of one-hot votes (R, N, M, K) and class shares P (R, K)."""
    _, N, M, K = votes.shape
    one = votes.flatten(2)
    O = one.mT @ one / N
    share = one.mean(1)[..., None]  # diag O
    between = 1 - torch.block_diag(*[torch.ones(K, K)] * M).to(O)
    own = torch.eye(K).repeat(M, 1).to(O)
    P = P[:, None]
    mu = own * (_PRECISION * share / P.clamp_min(1e-10)).clamp(0, 1)
    speed = torch.zeros_like(mu)
    for _ in range(steps):
        weighed = mu * P
        by_pairs = -4 * (between * (O - weighed @ mu.mT)) @ weighed
        by_share = 2 * (weighed.sum(-1, keepdim=True) - share) * P
        speed = _MOMENTUM * speed + by_pairs + by_share
        mu = mu - _RATE * speed
    return mu
