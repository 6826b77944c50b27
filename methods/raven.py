"""RAVEN: the supervisors' weights are learned together with the student."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmark.api import Batch, Method, Supervision, W2SError, cross_entropy, product_grid, register_method, safe_log
from methods._options import expect
from methods.entropy_weighting import entropy, inverse_entropy_weights


@register_method
@dataclass(eq=False)
class Raven(Method):
    """CE(q, t), t = sum_m w_m p_m divided by its sum over classes; w (R, M) on the simplex, learned by plain SGD.

    For the first easy_fraction * epochs (rounded) an example counts only if all supervisors' argmax agree (the mean
    stays over the whole minibatch) and w is fixed. Then each backward pass also steps w, which is clamped to >= 1e-6
    and divided by its sum. Because t is divided, the gradient of w_m at sum w = 1 is CE(q, p_m) - CE(q, t): a
    supervisor that agrees with the student better than the mixture gains weight.

    `eta`, the step of w, is this project's inference where it is None: 15 / (total steps * (1 - easy_fraction)), that
    is 15 in total. The released configurations have 1e-3 (iWildCam: 12-23 in total over a run), 0 (Camelyon17,
    fMoW: w stays as it is) and 1e-4 (ImageNet-C); in the few hundred steps of a small task 1e-3 leaves w almost
    uniform. Any eta that is given is taken literally; `raven_released` is this method with 1e-3.

    Deviations of this harness, for all methods. Features are standardised: on raw ones RAVEN fell from 50.1 to 20.5 and
    from 44.1 to 19.3 points on two held-out problems with a broken supervisor. An epoch's incomplete last minibatch is
    left out, other examples in each epoch: at most B - 1 of N are not seen in it, and w has one step less.

    Source: Jeon, Sobotka, Choi and Brbić (NeurIPS 2025), arXiv:2510.21332. Options: `learn_weights` or leave w fixed;
    `per_sample` weights (R, N, M), eta times N as each is seen once an epoch; `init` is `uniform`, `random` (uniform
    on the simplex) or `entropy` (inverse to mean entropy); `reset_each_epoch` starts each epoch from `init`.

    A DPO student may ask for the margin form of the released code (`preference_loss = "margin"`): with the reward
    log-odds g = sum_m w_m log(p_m0 / p_m1) the pair is ordered by the sign of g, h is its policy-minus-reference
    log-ratio margin. For the first half epoch -log sigma(beta h), w fixed; then -log sigma((beta + tanh(|g| / 2)) h),
    differentiable in w. (The release takes a softmax twice before the tanh and leaves no pair out; nor does this.)
    """

    name = "raven"
    version = 1
    title = "RAVEN (this project's eta)"
    citation = "Jeon et al. 2025, arXiv:2510.21332"
    kind = "ensemble"
    family = "learned weights"
    grid = product_grid(eta=(1e-3,), easy_fraction=(0.4,), epochs_times=(0.3,))  # 1e-3: a released eta

    easy_fraction: float = 0.2
    eta: float | None = None
    learn_weights: bool = True
    per_sample: bool = False
    init: str = "uniform"
    reset_each_epoch: bool = False

    def start(self, supervision: Supervision) -> None:
        expect(self, easy_fraction="[0, 1)", eta="[0, inf) or None")
        if self.init not in ("uniform", "random", "entropy"):
            raise W2SError(f"{self.name}: expected init uniform, random or entropy, found {self.init}")
        R, N, M, _ = supervision.soft_labels.shape
        self.epoch, self.easy_epochs = 0, round(self.easy_fraction * supervision.epochs)
        self.beta = supervision.margin_beta
        self.half_epoch = supervision.steps_per_epoch / 2 / supervision.total_steps  # as a share of all steps
        eta = 15 / (supervision.total_steps * (1 - self.easy_fraction)) if self.eta is None else self.eta
        self.rate = eta * (N if self.per_sample else 1)
        votes = supervision.soft_labels.max(-1).indices
        self.agreed = (votes == votes[..., :1]).all(-1)
        self.replicas = torch.arange(R, device=supervision.device)[:, None]
        w = supervision.soft_labels.new_ones(R, N if self.per_sample else 1, M)
        if self.init == "random":
            for own, generator in zip(w, supervision.generators, strict=True):
                own.copy_(torch.empty(own.shape).exponential_(generator=generator))
        elif self.init == "entropy":
            given = entropy(supervision.soft_labels)  # (R, N, M)
            w = inverse_entropy_weights(given if self.per_sample else given.mean(1, keepdim=True))
        self.initial = w / w.sum(-1, keepdim=True)
        self.weights = self.initial.clone()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if self.reset_each_epoch and batch.epoch != self.epoch:
            self.weights = self.initial.clone()
        self.epoch, easy = batch.epoch, batch.epoch < self.easy_epochs
        if self.beta is not None:
            easy = batch.progress <= self.half_epoch
        self.rows = batch.index if self.per_sample else torch.zeros_like(self.replicas)
        self.leaf = self.weights[self.replicas, self.rows].requires_grad_(self.learn_weights and not easy)
        if self.beta is not None:
            return self.margin_loss(logits, batch.soft_labels, self.beta, plain=easy)
        target = (self.leaf[..., None] * batch.soft_labels).sum(2)  # leaf: (R, B, M) per sample, else (R, 1, M)
        loss = cross_entropy(logits, target / target.sum(-1, keepdim=True))
        return loss * self.agreed[self.replicas, batch.index] if easy else loss

    def margin_loss(self, logits: Tensor, soft_labels: Tensor, beta: float, plain: bool) -> Tensor:
        """(R, B) from logits [s(a), s(b)], s = beta (log pi - log pi_ref); plain DPO in the first half epoch."""
        odds = safe_log(soft_labels[..., 0]) - safe_log(soft_labels[..., 1])  # (R, B, M)
        g = (self.leaf * odds).sum(-1)
        ordered = (logits[..., 0] - logits[..., 1]) * torch.where(g.detach() >= 0, 1.0, -1.0)  # beta h
        return softplus(-ordered if plain else -(1 + torch.tanh(g.abs() / 2) / beta) * ordered)

    def after_step(self) -> None:
        if self.leaf.grad is not None:
            w = (self.leaf.detach() - self.rate * self.leaf.grad).clamp_min(1e-6)
            self.weights[self.replicas, self.rows] = w / w.sum(-1, keepdim=True)
            self.leaf.grad = None

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights.mean(1)}
