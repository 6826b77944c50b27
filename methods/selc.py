"""Self-ensemble label correction: from some epoch on the labels move towards what the student says."""

from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Batch, Supervision, cross_entropy, log_softmax, product_grid, register_method
from methods._memory import remember
from methods._options import expect
from methods.ensemble import Ensemble


@register_method
@dataclass(eq=False)
class Selc(Ensemble):
    """CE(q, t_i), t_i (R, N, K) at first p̄ = mean_m p_m. From epoch turn * epochs on, each time that example i comes
    by, t_i <- momentum t_i + (1 - momentum) q without gradient, before it is used.

    It also stands for distillation from a running mean of the student's own predictions (temporal ensembling, Laine and
    Aila 2017, arXiv:1610.02242).

    Deviations: t_i starts at the soft p̄ in the place of one noisy hard label. The paper estimates the epoch of the turn
    for each data set; the release has epochs 20 to 40 of 200, and 40 of 200 is the default here.

    Source: Lu and He (IJCAI 2022), arXiv:2205.01156; formula and momentum by its code, github.com/MacLLL/SELC
    (`train_cifar_with_SELC.py`).

    Args:
        momentum: of the targets, α in the paper.
        turn: share of all epochs before the first correction; 1 is `ensemble`, and so is all above 0 with one epoch: it
            needs at least 2.
    """

    name = "selc"
    version = 1
    title = "SELC"
    citation = "Lu and He 2022, arXiv:2205.01156"
    family = "self-reinforcing"
    grid = product_grid(momentum=(0.7,), turn=(0.5,), epochs_times=(0.3,))

    momentum: float = 0.9
    turn: float = 0.2

    def start(self, supervision: Supervision) -> None:
        expect(self, momentum="[0, 1)", turn="[0, 1]")
        super().start(supervision)
        self.first = self.turn * supervision.epochs

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.epoch >= self.first:
            remember(self.targets, batch.index, log_softmax(logits).exp(), self.momentum)
        return cross_entropy(logits, self.target(batch))
