"""A student and an aggregator of votes that are to have as much information in common as can be."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Batch, Supervision, hard, product_grid, register_method, safe_log
from methods._adam import LearnsByAdam
from methods._options import expect


@register_method
@dataclass(eq=False)
class MaxMIG(LearnsByAdam):
    """-log sum_c q_c g_c / r_c + mean over j != i of the minibatch of sum_c q_ic g_jc / r_c: minus the information that
    student and aggregator gain of one another (Kullback-Leibler), up to a constant.

    g = softmax_c(sum_m W_m[c, vote of m] + log r_c), r the classes' vote shares. W (R, M, K, K) is learned by Adam from
    log(C_m + 1e-4), C_m[c, l] = share of l in m's votes, examples weighed by the share of all votes that says c.
    Supervisors may be dependent given the class; student and supervisors may not.

    Source: Cao, Xu, Kong and Wang, ICLR 2019, arXiv:1905.13436; formula and defaults from the released code (CIFAR-10:
    W's step 1e-4, the student's 1e-3, as the usual one here). There r is uniform; here it is the votes', at least 0.01,
    as classes may be rare. The released noise inside the logarithm, uniform up to 1e-4, is a clamp at 1e-8.

    Args:
        rate: step of W.
    """

    name = "max_mig"
    version = 1
    title = "Max-MIG"
    citation = "Cao et al. 2019, arXiv:1905.13436"
    kind = "ensemble"
    family = "learned weights"
    grid = product_grid(rate=(1e-3, 1e-2, 3e-2), epochs_times=(0.3,))

    rate: float = 1e-4

    def start(self, supervision: Supervision) -> None:
        expect(self, rate="[0, inf)")
        votes = hard(supervision.soft_labels)
        share = votes.mean(2)  # (R, N, K)
        confusion = torch.einsum("rnc,rnml->rmcl", share, votes) / share.sum(1)[:, None, :, None].clamp_min(1e-8)
        self.prior = share.mean(1).clamp_min(0.01)[:, None]  # (R, 1, K)
        self.prior = self.prior / self.prior.sum(-1, keepdim=True)
        self.aggregator = self.learned((confusion + 1e-4).log().contiguous(), self.rate)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        votes = hard(batch.soft_labels)
        aggregated = torch.einsum("rmcl,rbml->rbc", self.aggregator, votes) + self.prior.log()
        q, g = logits.softmax(-1), aggregated.softmax(-1) / self.prior
        same = (q * g).sum(-1)
        others = ((q * g.sum(1, keepdim=True)).sum(-1) - same) / max(1, q.shape[1] - 1)
        return others - safe_log(same)
