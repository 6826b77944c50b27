"""KD3A's knowledge vote: sure supervisors vote, and examples of which nobody is sure are left out."""

import math
from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Batch, Method, Supervision, cross_entropy, hard, product_grid, register_method
from methods._options import expect

_AT_LEAST = 0.25  # of all examples are learned


@register_method
@dataclass(eq=False)
class KnowledgeVote(Method):
    """w_i CE(q, onehot(argmax_c sum_m g_m onehot(argmax p_m)_c)), with g_m = max p_m for supervisors with max p_m above
    the gate, 0 for the others (all count if none passes), and w_i = 1 where one passes, else 0. The gate rises linearly
    with the share of steps done from `gate` to `final_gate`.

    Deviations: no mix-up of inputs. The gate rises with every step, in the release with every epoch. If fewer than a
    quarter of the train split's examples pass, the surest quarter by max_m max p_m does (this project's: weak
    supervisors may never reach 0.9). KD3A's weights of sources when models are averaged have no place here, as
    supervisors are fixed.

    Source: Feng, You, Chen, Zhang, Zhu, Wu, Wu and Chen (ICML 2021), "KD3A", arXiv:2011.09757; formula and gates
    (`DigitFive.yaml`) by its code, github.com/FengHZ/KD3A.

    Args:
        gate: the confidence that a supervisor must exceed at first.
        final_gate: and in the end.
    """

    name = "knowledge_vote"
    version = 1
    title = "Knowledge vote (KD3A)"
    citation = "Feng et al. 2021, arXiv:2011.09757"
    kind = "ensemble"
    family = "source-free adaptation"
    grid = product_grid(gate=(0.5, 0.7, 0.8), epochs_times=(0.3,))

    gate: float = 0.9
    final_gate: float = 0.95

    def start(self, supervision: Supervision) -> None:
        expect(self, gate="[0, 1]", final_gate="[0, 1]")
        surest = supervision.soft_labels.amax((2, 3))  # (R, N)
        self.least = surest.topk(math.ceil(_AT_LEAST * surest.shape[1])).values[:, -1:]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        confidence = batch.soft_labels.amax(-1)  # (R, B, M)
        passes = confidence > self.gate + (self.final_gate - self.gate) * batch.progress
        passed = passes.any(-1)
        counts = confidence * (passes | ~passed[..., None])
        vote = hard((hard(batch.soft_labels) * counts[..., None]).sum(2))
        return cross_entropy(logits, vote) * (passed | (confidence.amax(-1) >= self.least))
