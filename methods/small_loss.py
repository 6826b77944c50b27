"""Small-loss selection: of each minibatch only the examples that the student finds easiest are learned."""

from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Batch, Supervision, cross_entropy, hard, product_grid, register_method
from methods._options import expect
from methods.ensemble import Ensemble

_RAMP = 0.05  # share of all steps until `forget` is reached: 10 of 200 epochs in the release


@register_method
@dataclass(eq=False)
class SmallLoss(Ensemble):
    """CE(q, p̄), p̄ = mean_m p_m, on the share 1 - f of each replica's minibatch (rounded down, at least one example)
    that has the smallest CE(q, p̄), and 0 on the others; f = forget * min(1, s / 0.05), s in (0, 1] the share of steps
    done. The mean is over those that are kept.

    Deviations: in co-teaching two students choose for each other; here one chooses for itself. f rises with every
    step, in the release with every epoch. With a soft p̄ a small cross-entropy also means a sure label, not only a clean
    one.

    Source: Han, Yao, Yu, Niu, Xu, Hu, Tsang and Sugiyama (NeurIPS 2018), "Co-teaching", arXiv:1804.06872, formula and
    schedule by its public code; `forget=None`, in the place of a known rate of noise, is this project's.

    Args:
        forget: share of a minibatch that is left out in the end, the rate of noise; 0 is `ensemble`. None: the mean
            share of votes argmax p_m against the class with most votes, for each replica.
    """

    name = "small_loss"
    version = 1
    title = "Small-loss selection"
    citation = "Han et al. 2018, arXiv:1804.06872"
    family = "noisy-label loss"
    grid = product_grid(forget=(0.1, 0.3, 0.5), epochs_times=(0.3,))

    forget: float | None = None

    def start(self, supervision: Supervision) -> None:
        expect(self, forget="[0, 1) or None")
        super().start(supervision)
        against = 1 - hard(supervision.soft_labels).mean(2).amax(-1).mean(1, keepdim=True)  # (R, 1)
        self.noise = against if self.forget is None else against.new_full(against.shape, self.forget)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        loss = cross_entropy(logits, self.target(batch))
        B = loss.shape[1]
        share = 1 - self.noise * min(1.0, batch.progress / _RAMP)
        count = (share * B + 1e-3).floor().clamp_min(1)  # whole numbers stay what they are, however they are rounded
        rank = loss.detach().argsort(dim=-1, stable=True).argsort(-1)
        return loss * (rank < count) * (B / count)
