"""DivideMix: two students tell by their losses which labels are clean, and one is trained on from what both say."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Batch,
    Family,
    Supervision,
    Trainer,
    cross_entropy,
    log_softmax,
    product_grid,
    register_method,
    safe_log,
)
from methods._mixture import clean_probability
from methods._options import expect
from methods.ensemble import Ensemble

_RAMP = 16 / 290  # share of the steps until `unlabelled` is reached: 16 of the release's 290 epochs after the warm-up


@register_method
@dataclass(eq=False)
class DivideMix(Ensemble):
    """Three stages, each of the full number of steps, with p̄ = mean_m p_m:

    1. student a learns CE(q, p̄); student b too, from other initial weights and in another order.
    2. The losses CE(a_i, p̄_i) of a, scaled to [0, 1], are a mixture of two Gaussians; w_i is the probability of the one
       with the lower mean. Examples of w_i > 1/2 are labelled, u_i ∝ (w_i p̄_i + (1 - w_i) b_i)^(1/temperature); the
       others are not, u_i ∝ ((a_i + b_i) / 2)^(1/temperature).
    3. b goes on: the mean of CE(q, u) over the minibatch's labelled examples, and `unlabelled` times the mean of
       (q - u)² over the others and over classes, and `penalty` times KL(uniform || mean of q over the minibatch).

    Deviations: no MixMatch, which mixes and augments inputs. w and u are computed once, so that stage 3 fits frozen
    targets; the release divides anew in every epoch, by both students, and makes u anew in every minibatch. So b alone
    is trained on, by a's division (co-divide), where the release trains both and adds up their answers. p̄ is soft, so
    that a small loss also means a sure label. A linear head's problem is convex: a and b differ little. EM starts from
    two means that begin at the ends, in the release from k-means.

    Source: Li, Socher and Hoi (ICLR 2020), arXiv:2002.07394, by its code, github.com/LiJunnan1992/DivideMix
    (`Train_CIFAR.py`: T 0.5, lambda_u 25, threshold 0.5; 0 as another `unlabelled` is from memory of the paper).

    Args:
        temperature: of the sharpening; 1 leaves u as it is.
        unlabelled: weight of the examples that are not labelled, rising over the first 5.5% of stage 3.
        penalty: weight of what keeps the classes about equally frequent.
    """

    name = "dividemix"
    version = 1
    title = "DivideMix"
    citation = "Li et al. 2020, arXiv:2002.07394"
    family: ClassVar[Family] = "self-reinforcing"
    grid = product_grid(temperature=(1.0,), unlabelled=(0.0,), epochs_times=(0.3,))

    temperature: float = 0.5
    unlabelled: float = 25.0
    penalty: float = 1.0

    def start(self, supervision: Supervision) -> None:
        expect(self, temperature="(0, inf)", unlabelled="[0, inf)", penalty="[0, inf)")
        super().start(supervision)
        self.labelled = torch.ones_like(self.targets[..., 0])  # (R, N) 1 or 0
        self.divided = False

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if not self.divided:
            return super().loss(logits, batch)
        u, log_q = batch.soft_labels[:, :, 0], log_softmax(logits)
        clean = self.labelled.gather(1, batch.index)
        count = clean.sum(1, keepdim=True)
        rest, ramp = clean.shape[1] - count, min(1.0, batch.progress / _RAMP)
        fits = cross_entropy(logits, u) * clean / count.clamp_min(1)
        guesses = (log_q.exp() - u).square().mean(-1) * (1 - clean) / rest.clamp_min(1)
        log_mean = log_q.logsumexp(1) - math.log(logits.shape[1])
        uneven = -math.log(logits.shape[-1]) - log_mean.mean(-1, keepdim=True)  # KL(uniform || mean of q), (R, 1)
        return (fits + self.unlabelled * ramp * guesses) * clean.shape[1] + self.penalty * uneven

    def fit(self, trainer: Trainer) -> None:
        trainer.fit()
        a = trainer.predict()
        trainer.fit(variant=1)
        b, given = trainer.predict(), self.targets
        w = clean_probability(cross_entropy(a.clamp_min(1e-8).log(), given))
        self.labelled = (w > 0.5).to(given)
        w = w[..., None]
        u = torch.where(w > 0.5, w * given + (1 - w) * b, (a + b) / 2)
        self.divided = True
        trainer.fit(targets=sharpen(u, self.temperature), warm_start=True)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"labelled": self.labelled.mean(1)}


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """p^(1 / temperature), with sum 1 over the last dimension; by logarithms, as the power of all may be 0."""
    return (safe_log(p) / temperature).softmax(-1)
