"""Co-supervised learning: from a generalist to specialists, each example with the supervisor nearest to the student."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Batch, Method, Trainer, cross_entropy, register_method, safe_log


@register_method
@dataclass(eq=False)
class CoSupervised(Method):
    """Layers of supervisors; the student is trained anew for each, for the same number of steps, by CE(q, target).

    Layer 0: the target is the mean of its supervisors. Each further layer, with q the student before:

    1. an example's target is the supervisor of the layer with the lowest KL(q || p_m);
    2. ρ = share of examples whose target's argmax is among the top 3 classes of q (top 1 for K <= 3);
    3. the share ρ of examples of the lowest CE(q, onehot(argmax target)) is kept, and only these are learned, by their
       soft targets; it is by hard labels that the release ranks.

    Deviations: the release always uses top 2 or 3, which filters nothing at K = 2. Supervisors come without a given
    hierarchy, so layer 0 is the mean of all, layer 1 all of them.

    Source: Liu and Alahi (2024), "Co-Supervised Learning: Improving Weak-to-Strong Generalization with Hierarchical
    Mixture of Experts", arXiv:2402.15505.

    Args:
        layers: positions of each layer's supervisors, from the generalist to the specialists; None for (all, all).
    """

    name = "co_supervised"
    version = 2
    title = "Co-supervised"
    citation = "Liu and Alahi 2024, arXiv:2402.15505"
    kind = "ensemble"
    family = "learned weights"  # one-hot ones: the student chooses whom to believe; targets are supervisors' alone

    layers: tuple[tuple[int, ...], ...] | None = None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels.mean(2))

    def fit(self, trainer: Trainer) -> None:
        soft_labels = trainer.supervision.soft_labels
        generalist, *specialists = self.layers or 2 * (tuple(range(soft_labels.shape[2])),)
        trainer.fit(targets=soft_labels[:, :, list(generalist)].mean(2))
        self.kept = soft_labels.new_ones(soft_labels.shape[:2], dtype=torch.bool)
        for layer in specialists:
            targets, self.kept = assign(trainer.predict(), soft_labels[:, :, list(layer)])
            trainer.fit(targets=targets, keep=self.kept)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"kept": self.kept.double().mean(1)}


def assign(student: Tensor, soft_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (R, N, K) and which examples to keep (R, N), from q (R, N, K) and a layer's soft labels (R, N, M, K)."""
    K = student.shape[-1]
    # KL(q || p_m) up to the entropy of q, which is the same for all supervisors
    divergence = -torch.einsum("rnk,rnmk->rnm", student, safe_log(soft_labels))
    nearest = divergence.argmin(-1)[..., None, None].expand(-1, -1, 1, K)
    targets = soft_labels.gather(2, nearest).squeeze(2)
    label = targets.max(-1, keepdim=True).indices
    ahead = (student > student.gather(-1, label)).sum(-1)  # classes that the student holds more probable
    count = (ahead < (3 if K > 3 else 1)).sum(-1, keepdim=True)  # ρ N
    surprise = -safe_log(student.gather(-1, label)).squeeze(-1)
    return targets, surprise.argsort(dim=-1, stable=True).argsort(-1) < count
