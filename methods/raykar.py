"""EM over supervisors' confusion matrices with the student as the prior of each example's class."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Batch, Supervision, cross_entropy, hard, log_softmax, product_grid, register_method, safe_log
from methods._memory import remember
from methods._options import expect
from methods.majority_vote import MajorityVote


@register_method
@dataclass(eq=False)
class Raykar(MajorityVote):
    """CE(q, t). t (R, N, K) starts as the shares of the votes v_m = argmax p_m. Before each epoch from burn_in * epochs
    on, but the first, a round of EM makes it anew, with r_i what the student said of example i when it last came by:

    M step: C_m[k, c] proportional to 1 + sum_i t_ik [v_m(i) = c], with sum 1 over c;
    E step: t_ik proportional to r_ik prod_m C_m[k, v_m(i)], with sum 1 over k.

    It differs from `dawid_skene` in that the prior is the student, not one class distribution for all examples; both
    count supervisors as independent given the class, and the student as one more of them.

    With one epoch it is `majority_vote`: EM needs at least 2.

    Deviations: the M step is one epoch of training, not a fit to the end. r_i is up to an epoch old; it starts as the
    vote shares. `burn_in` is this project's: the first students are random, and an EM that starts with them is, too.

    Source: Raykar, Yu, Zhao, Valadez, Florin, Bogoni and Moy (2010), "Learning From Crowds", JMLR 11, 1297-1322; for
    networks Albarqouni et al. (2016), IEEE TMI 35(5), "AggNet". E step, pseudo-count 1 and one epoch a round by the
    code of Rodrigues, github.com/fmpr/CrowdLayer, which starts at the hard majority, and where C comes of the student's
    answers, and is divided by sum_i t_ik without the pseudo-counts; that its rows sum to 1 is this project's. That C
    comes of t, and the start, are those of Raykar et al., from memory.

    Args:
        burn_in: share of all epochs that learn from the vote shares; 1 is `majority_vote`.
    """

    name = "raykar"
    version = 1
    title = "Raykar"
    citation = "Raykar et al. 2010, JMLR 11"
    family = "self-reinforcing"
    grid = product_grid(burn_in=(0.0,), learning_rate_times=(3,), epochs_times=(0.3,))

    burn_in: float = 0.2

    def start(self, supervision: Supervision) -> None:
        expect(self, burn_in="[0, 1]")
        super().start(supervision)
        self.supervision = supervision
        self.answers = self.targets.clone()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        remember(self.answers, batch.index, log_softmax(logits).exp())
        return cross_entropy(logits, self.target(batch))

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        if self.burn_in * self.supervision.epochs <= epoch + 1 < self.supervision.epochs:
            self.targets = posterior(self.targets, hard(self.supervision.soft_labels), self.answers)


def posterior(targets: Tensor, votes: Tensor, prior: Tensor) -> Tensor:
    """A round of EM, (R, N, K), from the targets before and the prior (R, N, K), and one-hot votes (R, N, M, K)."""
    counts = 1 + torch.einsum("rnk,rnmc->rmkc", targets, votes)
    confusion = counts / counts.sum(-1, keepdim=True)
    return (safe_log(prior) + torch.einsum("rnmc,rmkc->rnk", votes, confusion.log())).softmax(-1)
