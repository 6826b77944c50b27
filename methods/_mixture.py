"""Two clusters of losses: small ones of labels that fit, large ones of labels that don't."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

_ROUNDS, _CHANGE, _FLOOR = 10, 1e-2, 5e-4  # of EM: rounds at most, least rise of the mean likelihood, added variance


def clean_probability(losses: Tensor) -> Tensor:
    """(R, N) probabilities of being in the Gaussian of lower mean, of two that are fitted to each replica's losses."""
    R, N = losses.shape
    low, high = losses.aminmax(dim=1, keepdim=True)
    x = ((losses - low) / (high - low).clamp_min(1e-12)).double()[..., None]
    shares = one_hot((x[..., 0] > 0.5).long(), 2).double()  # (R, N, 2)
    for _ in range(_ROUNDS):  # two means, (R, 1, 2)
        means = (shares * x).sum(1, keepdim=True) / shares.sum(1, keepdim=True).clamp_min(1)
        shares = one_hot((x - means).abs().min(-1).indices, 2).double()
    center, bound = x.new_zeros(R, 1, 2), x.new_full((R, 1, 1), -torch.inf)
    going = more = torch.ones_like(bound, dtype=torch.bool)
    for _ in range(_ROUNDS + 1):  # once more for the probabilities under the last parameters
        count = shares.sum(1, keepdim=True).clamp_min(1e-12)
        center = (shares * x).sum(1, keepdim=True) / count
        variance = (shares * (x - center).square()).sum(1, keepdim=True) / count + _FLOOR
        log_joint = (count / N).log() - ((x - center).square() / variance + variance.log()) / 2
        total = log_joint.logsumexp(-1, keepdim=True)
        shares = torch.where(going, (log_joint - total).exp(), shares)
        before, bound = bound, total.mean(1, keepdim=True)
        going, more = more, more & ((bound - before).abs() >= _CHANGE)
    lower = center.min(-1, keepdim=True).indices
    return shares.gather(-1, lower.expand(R, N, 1))[..., 0].to(losses)
