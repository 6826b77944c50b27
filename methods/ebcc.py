"""Training on the posterior of a Bayesian label model in which supervisors may share their errors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Supervision, product_grid, register_method
from methods._options import expect
from methods.ensemble import Ensemble

_ROUNDS = 100
_RIGHT, _WRONG, _SPREAD = 4.0, 1.0, 0.1


@register_method
@dataclass(eq=False)
class EBCC(Ensemble):
    """CE(q, posterior): a class k has G subtypes g, and given these the votes are independent; given k they are not.

    Mean-field variational Bayes, rho_ikg the responsibilities and z_ik = sum_g rho_ikg the posterior:
    rho_ikg proportional to exp(E log pi_kg + E log tau_k + sum_m E log V_mkg[vote]), with tau ~ Dir(sums of classes'
    vote shares), pi_k ~ Dir(0.1 / G), V_mkg ~ Dir(4 for class k, 1 for others), and expected counts added to each.
    The start is z = vote shares, split among subtypes by one draw from Dir(1, .., 1) for each example and class; then
    100 rounds. `groups=1` is independent Bayesian classifier combination (IBCC).

    Source: Li, Rubinstein and Cohn, ICML 2019 (abstract); formulas and constants from the code in WRENCH
    (`empirical_prior`), which stops when z changes by less than 1e-3, after 500 rounds at most, and takes the best of
    five starts; here there is one start, drawn by the replica's generator.

    Args:
        groups: G, the subtypes of a class.
    """

    name = "ebcc"
    version = 1
    title = "EBCC"
    citation = "Li et al. 2019, ICML"
    family = "label model"
    grid = product_grid(groups=(1, 3, 20), epochs_times=(0.3,))

    groups: int = 10

    def start(self, supervision: Supervision) -> None:
        expect(self, groups="[1, inf)")
        p = supervision.soft_labels
        votes = p.max(-1).indices
        N, K = p.shape[1], p.shape[-1]
        found = []
        for own, generator in zip(votes, supervision.generators, strict=True):
            split = torch.empty(N, K, self.groups, dtype=torch.float64).exponential_(generator=generator)
            found.append(posterior(own, split / split.sum(-1, keepdim=True)))
        self.targets = torch.stack(found).to(p)


def posterior(votes: Tensor, split: Tensor) -> Tensor:
    """Class ids (N, M), and how each example's classes start among subtypes, (N, K, G) on the CPU -> (N, K) float64.

    Examples with the same votes have the same posterior: rounds go over the P distinct ones.
    """
    K, G = split.shape[1:]
    patterns, pattern, count = torch.unique(votes, dim=0, return_inverse=True, return_counts=True)
    one = torch.nn.functional.one_hot(patterns, K).double()  # (P, M, K)
    vote_share = one.mean(1) + 1e-8
    vote_share = vote_share / vote_share.sum(-1, keepdim=True)
    start = torch.zeros(len(patterns), K, G, dtype=torch.float64).index_add_(0, pattern.cpu(), split)
    expected = start.to(one.device) * vote_share[..., None]  # summed over the examples of a pattern
    prior_votes = (_WRONG + (_RIGHT - _WRONG) * torch.eye(K, device=one.device).double())[:, None]  # (K, 1, K)
    prior_classes = (count[:, None] * vote_share).sum(0)
    for _ in range(_ROUNDS):
        by_subtype = _expected_log(_SPREAD / G + expected.sum(0))  # (K, G)
        by_class = _expected_log(prior_classes + expected.sum((0, 2)))
        by_vote = _expected_log(prior_votes + torch.einsum("pkg,pml->mkgl", expected, one))
        logits = by_subtype + by_class[:, None] + torch.einsum("pml,mkgl->pkg", one, by_vote)
        expected = count[:, None, None] * logits.flatten(1).softmax(-1).view_as(logits)
    found: Tensor = (expected.sum(-1) / count[:, None])[pattern]
    return found


def _expected_log(concentration: Tensor) -> Tensor:
    """E log x of x ~ Dir(concentration), over the last dimension."""
    return concentration.digamma() - concentration.sum(-1, keepdim=True).digamma()
