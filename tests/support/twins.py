"""The methods' formulas, written a second time in plain Python floats, one example at a time, without tensors.

RAVEN's steps are in `methods/test_raven.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

from scipy.special import digamma

from support import twins_joint_em, twins_losses
from support.plain_losses import Vector, ce, entropy, mean, mix, normalised, onehot, softmax
from support.twins_label_models import LABEL_MODEL_TWINS

# losses


def dirichlet_kl(a: Vector) -> float:
    """KL(Dir(a) || Dir(1))."""
    K, S = len(a), math.fsum(a)
    value = math.lgamma(S) - math.lgamma(K)
    return value + math.fsum(-math.lgamma(ac) + (ac - 1) * (digamma(ac) - digamma(S)) for ac in a)


def evidential(z: Vector, t: Vector, s: float) -> float:
    a = [max(v, 0.0) + 1 for v in z]
    tilde = [(ac - 1) * (1 - tc) + 1 for ac, tc in zip(a, t, strict=True)]
    fit = math.fsum(tc * (math.log(math.fsum(a)) - math.log(ac)) for tc, ac in zip(t, a, strict=True))
    return fit + s * dirichlet_kl(tilde)


def agreement(z: Vector, given: Vector, temperature: float) -> Vector:
    """The student's own answer mixed into what is given, by how near it is to each."""
    own, other = (math.exp(ce(z, onehot(t)) / temperature) for t in (z, given))
    return mix(own / (own + other), given, onehot(z))


# method, options, and the target t of its loss CE(q, t): (logits z, soft labels [p_1 .. p_M], progress s) -> t
Target = Callable[[Vector, list[Vector], float], Vector]
TARGETS: list[tuple[str, dict[str, float], Target]] = [
    ("naive", {}, lambda z, p, s: p[0]),
    ("bootstrapping", {}, lambda z, p, s: p[0]),
    ("ensemble", {}, lambda z, p, s: mean(p)),
    ("co_supervised", {}, lambda z, p, s: mean(p)),
    ("majority_vote", {}, lambda z, p, s: mean([onehot(pm) for pm in p])),
    ("entropy_weighting", {}, lambda z, p, s: mean(p, [1 / (entropy(pm) + 1e-8) for pm in p])),
    ("confidence", {}, lambda z, p, s: mix(0.5 * min(1.0, s / 0.2), mean(p), onehot(z))),
    ("confidence", {"warmup": 0.0, "max_confidence": 0.3}, lambda z, p, s: mix(0.3, mean(p), onehot(z))),
    ("ensemble_confidence", {}, lambda z, p, s: mix(0.5 * min(1.0, s / 0.2), mean(p), onehot(z))),
    ("adaptive_confidence", {}, lambda z, p, s: agreement(z, mean(p), 1.0)),
    ("adaptive_confidence", {"temperature": 2.5}, lambda z, p, s: agreement(z, mean(p), 2.5)),
    ("ensemble_adaptive_confidence", {}, lambda z, p, s: agreement(z, mean(p), 1.0)),
]


# of several stages


def assignment(student: list[Vector], p: list[list[Vector]]) -> tuple[list[Vector], set[int]]:
    """Co-supervised targets and positions kept of one replica, from the student before and a layer's soft labels."""

    def log(v: float) -> float:
        return math.log(max(v, 1e-8))

    chosen, hits, costs = [], 0, []
    for q, row in zip(student, p, strict=True):
        divergence = [math.fsum(qc * (log(qc) - log(pc)) for qc, pc in zip(q, pm, strict=True)) for pm in row]
        target = row[divergence.index(min(divergence))]
        chosen.append(target)
        top = sorted(range(len(q)), key=lambda c: -q[c])[: 1 if len(q) <= 3 else 3]
        label = target.index(max(target))
        hits += label in top
        costs.append(-log(q[label]))  # CE with the hard label of the target
    return chosen, set(sorted(range(len(costs)), key=costs.__getitem__)[:hits])


# Dawid and Skene's model


def em_by_hand(votes: list[list[int]], K: int, rounds: int) -> list[Vector]:
    """EM from the vote shares: posteriors (N, K) after `rounds` rounds of an M and an E step, each class at 1e-10 or
    more if anybody votes for it."""
    M, least = len(votes[0]), 1e-10
    voted = {v for row in votes for v in row}
    posterior = [[row.count(c) / M for c in range(K)] for row in votes]
    for _ in range(rounds):
        prior = mean(posterior)
        confusion = [[[0.0] * K for _ in range(K)] for _ in range(M)]  # annotator, true class, vote
        for m, c in product(range(M), range(K)):
            for v in {row[m] for row in votes}:
                count = math.fsum(p[c] for p, row in zip(posterior, votes, strict=True) if row[m] == v)
                confusion[m][c][v] = max(count, least)
            confusion[m][c] = normalised(confusion[m][c])
        for n, row in enumerate(votes):
            logs = {c: math.log(max(prior[c], least)) for c in voted}
            for c, m in product(voted, range(M)):
                logs[c] += math.log(confusion[m][c][row[m]])
            likelihood = dict(zip(logs, softmax(list(logs.values())), strict=True))
            posterior[n] = [likelihood.get(c, 0.0) for c in range(K)]
    if not rounds:
        return posterior
    return [normalised([max(p, least) if c in voted else 0.0 for c, p in enumerate(row)]) for row in posterior]


# who has which

RAVENS = ("raven", "raven_released", "raven_no_easy", "raven_no_weights", "raven_per_sample")
# method -> the tests that hold its formula against the one here
TWINS: dict[str, tuple[str, ...]] = {
    **{name: ("test_cross_entropy_losses_and_gradients",) for name, _, _ in TARGETS},
    "bootstrapping": ("test_cross_entropy_losses_and_gradients", "test_bootstrapping_is_a_chain"),
    "co_supervised": ("test_cross_entropy_losses_and_gradients", "test_co_supervised_assigns_and_keeps"),
    "bayesian": ("test_bayesian",),
    "dawid_skene": ("test_dawid_skene_is_em", "test_dawid_skene_losses_and_gradients"),
    **dict.fromkeys(RAVENS, ("test_every_step_is_the_one_by_hand",)),
    **LABEL_MODEL_TWINS,
}
TWINS |= twins_losses.TWINS | twins_joint_em.TWINS
TWINS |= {
    "dine": ("test_label_smoothing_keeps_the_largest", "test_dine_is_the_plain_loop"),
    "dividemix": ("test_clean_probabilities_are_those_of_scikit_learn", "test_dividemix_is_the_plain_loop"),
}
