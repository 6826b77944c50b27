"""Label models and learned aggregators, written a second time: example by example, in plain Python and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.special import digamma

from support.plain_losses import Vector, mean, normalised, onehot, softmax

Labels = list[list[Vector]]  # (N, M, K) of one replica
Votes = list[list[int]]  # (N, M)


def votes_of(p: Labels) -> Votes:
    return [[pm.index(max(pm)) for pm in row] for row in p]


def shares(votes: Votes, K: int, balance: str) -> Vector:
    flat = [v for row in votes for v in row]
    return [flat.count(c) / len(flat) if balance == "votes" else 1 / K for c in range(K)]


def snorkel(p: Labels, steps: int = 100, balance: str = "uniform") -> list[Vector]:
    votes, M, K = votes_of(p), len(p[0]), len(p[0][0])
    N, P, cells = len(votes), shares(votes, K, balance), list(product(range(M), range(K)))
    together = {(a, b): sum(r[a[0]] == a[1] and r[b[0]] == b[1] for r in votes) / N for a in cells for b in cells}
    mu = {}
    for a, c in product(cells, range(K)):
        start = 0.7 * together[a, a] / P[c] if P[c] else 0.0
        mu[a, c] = min(1.0, start) if a[1] == c else 0.0
    speed = dict.fromkeys(mu, 0.0)
    for _ in range(steps):
        slope = {}
        for a, k in mu:
            short = math.fsum(mu[a, c] * P[c] for c in range(K)) - together[a, a]
            slope[a, k] = 2 * short * P[k]
            for b in cells:
                if b[0] != a[0]:
                    left = together[a, b] - math.fsum(mu[a, c] * P[c] * mu[b, c] for c in range(K))
                    slope[a, k] -= 4 * left * P[k] * mu[b, k]
        for key in mu:
            speed[key] = 0.9 * speed[key] + slope[key]
            mu[key] -= 0.01 * speed[key]
    least = min(0.01, 10.0 ** -math.ceil(math.log10(N)))
    mu = {key: min(max(value, least), 1 - least) for key, value in mu.items()}
    return [
        softmax(
            [
                math.log(max(P[c], 1e-10)) + math.fsum(math.log(mu[(m, v), c]) for m, v in enumerate(row))
                for c in range(K)
            ]
        )
        for row in votes
    ]


def flyingsquid(p: Labels, centred: bool = False, balance: str = "votes") -> list[Vector]:
    """Joint tables from the linear system of the release: probabilities' sum, P(l = 1), P(Y = 1), P(l = Y)."""
    votes, M, K = votes_of(p), len(p[0]), len(p[0][0])
    posteriors = []
    for c in range(K):
        L = np.array([[1.0 if v == c else -1.0 for v in row] for row in votes])
        positive = shares(votes, K, balance)[c]
        truth = 2 * positive - 1
        S = (len(L) * L.T @ L - centred * np.outer(L.sum(0), L.sum(0))) / len(L) ** 2
        tables = []
        for i in range(M):
            found = []
            for j, k in combinations([m for m in range(M) if m != i], 2):
                value = math.sqrt(abs(S[i, j] * S[i, k] / S[j, k])) if S[j, k] else 0.0
                found += [value] if value else []
            a = sum(found) / len(found) if found else 0.0
            if centred:
                a = a * math.sqrt(1 - truth**2) + L[:, i].mean() * truth
            a = min(max(a, -1.0), 1.0)
            system = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]])  # (l, Y): ++ +- -+ --
            known = [1, (1 + L[:, i].mean()) / 2, positive, (1 + a) / 2]
            table = np.abs(np.linalg.solve(system, known))
            tables.append(dict(zip(product((1, -1), (1, -1)), table, strict=True)))
        rows = []
        for row in L:
            prior = {1: positive, -1: 1 - positive}
            weight = {
                y: prior[y] * math.prod(max(t[int(v), y] / prior[y], 1e-10) for t, v in zip(tables, row, strict=True))
                for y in prior
            }
            rows.append(weight[1] / (weight[1] + weight[-1]))
        posteriors.append(rows)
    return [normalised(list(row)) for row in zip(*posteriors, strict=True)]


def beyond_chance(votes: Votes, K: int) -> np.ndarray[Any, Any]:
    """Off the diagonal, the covariances of votes for a class, summed over classes."""
    N, M = len(votes), len(votes[0])
    A = np.zeros((M, M))
    for m, n in product(range(M), repeat=2):
        if m != n:
            alike = sum(row[m] == row[n] for row in votes)
            chance = sum(sum(row[m] == c for row in votes) * sum(row[n] == c for row in votes) for c in range(K))
            A[m, n] = (N * alike - chance) / N**2
    return A


def rank_one_diagonal(A: np.ndarray[Any, Any], variances: Vector) -> Vector:
    """An equation b_m + b_n = log |A_mn| for each pair, by how sure it is."""
    M = len(A)
    rows, known, seen = [np.zeros(M)], [0.0], set()
    for m, n in combinations(range(M), 2):
        if A[m, n]:
            sure = abs(A[m, n]) / math.sqrt(variances[m] * variances[n] + A[m, n] ** 2)
            rows.append(np.array([sure * (i in (m, n)) for i in range(M)]))
            known.append(sure * math.log(abs(A[m, n])))
            seen |= {m, n}
    b = np.linalg.lstsq(np.array(rows), np.array(known), rcond=1e-6)[0]
    return [min(math.exp(2 * b[m]), variances[m]) if m in seen else 0.0 for m in range(M)]


def rank_one(p: Labels) -> np.ndarray[Any, Any]:
    votes, K, M = votes_of(p), len(p[0][0]), len(p[0])
    variances = [1 - math.fsum(s**2 for s in shares([[row[m]] for row in votes], K, "votes")) for m in range(M)]
    A = beyond_chance(votes, K)
    return A + np.diag(rank_one_diagonal(A, variances))


def has_a_direction(p: Labels) -> bool:
    """The leading eigenvector is not at right angles to where the search starts: rounding would choose its sign."""
    return bool(abs(np.linalg.eigh(rank_one(p))[1][:, -1].sum()) > 0.01)


def spectral(p: Labels, sharpen: bool = False) -> list[Vector]:
    A, M = rank_one(p), len(p[0])
    u = np.ones(M) / math.sqrt(M)
    for _ in range(50):
        moved = (A + 0.1 * np.abs(A).sum() / M * np.eye(M)) @ u
        u = moved / np.linalg.norm(moved) if np.linalg.norm(moved) > 0 else u
    targets = [mean([onehot(pm) for pm in row], np.maximum(u, 1e-8).tolist()) for row in p]
    return [onehot([float(round(1e4 * v)) for v in t]) for t in targets] if sharpen else targets


def ebcc(votes: Votes, K: int, split: np.ndarray[Any, Any], rounds: int) -> list[Vector]:
    """Every example's responsibilities by itself; split (N, K, G)."""
    N, M, G = len(votes), len(votes[0]), split.shape[2]
    z = np.array([normalised([row.count(c) / M + 1e-8 for c in range(K)]) for row in votes])
    alpha, rho = z.sum(0), split * z[:, :, None]
    for _ in range(rounds):
        eta, nu = 0.1 / G + rho.sum(0), alpha + rho.sum((0, 2))
        mu = np.ones((M, K, G, K))
        for k in range(K):
            mu[:, k, :, k] += 3
        for n, m in product(range(N), range(M)):
            mu[m, :, :, votes[n][m]] += rho[n]
        for n in range(N):
            log = np.zeros((K, G))
            for k, g in product(range(K), range(G)):
                log[k, g] = digamma(eta[k, g]) - digamma(eta[k].sum()) + digamma(nu[k]) - digamma(nu.sum())
                for m in range(M):
                    log[k, g] += digamma(mu[m, k, g, votes[n][m]]) - digamma(mu[m, k, g].sum())
            rho[n] = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    return [list(row) for row in rho.sum(2)]


def ensemw2s(p: Labels, soft: bool = False) -> list[Vector]:
    votes, M, K = votes_of(p), len(p[0]), len(p[0][0])
    weights = []
    for m in range(M):
        others = [[row[m] != v for i, v in enumerate(row) if i != m] for row in votes]
        error = sum(map(sum, others)) / (len(votes) * (M - 1)) if M > 1 else 1.0
        weights.append(max(0.0, math.log(max(1 - error, 1e-8) / max(error, 1e-8)) + math.log(K - 1)))
    weights = weights if any(weights) else [1.0] * M
    return [mean(row if soft else [onehot(pm) for pm in row], weights) for row in p]


def agreement_selection(p: Labels) -> list[Vector]:
    votes = votes_of(p)
    alike = [sum(row.count(row[m]) for row in votes) for m in range(len(p[0]))]
    return [row[alike.index(max(alike))] for row in p]


Model = Callable[..., list[Vector]]
MODELS: list[tuple[str, dict[str, Any], Model]] = [
    ("snorkel", {}, snorkel),
    ("snorkel", {"steps": 7, "balance": "votes"}, snorkel),
    ("flyingsquid", {}, flyingsquid),
    ("flyingsquid", {"centred": True}, flyingsquid),
    ("flyingsquid", {"balance": "uniform"}, flyingsquid),
    ("spectral", {}, spectral),
    ("spectral", {"sharpen": True}, spectral),
    ("ensemw2s", {}, ensemw2s),
    ("ensemw2s", {"soft": True}, ensemw2s),
    ("agreement_selection", {}, agreement_selection),
]


# learned with the student: losses of one replica's minibatch


def weasel(z: list[Vector], p: Labels, layers: list[tuple[Any, Any]], temperature: float) -> tuple[Vector, Vector]:
    """CE(q, t) and CE(t, q) of each example; layers are (weights, biases) of the encoder."""
    M, K = len(p[0]), len(p[0][0])
    to_student, to_encoder = [], []
    for own, row in zip(z, p, strict=True):
        x = np.array(row).flatten()
        for number, (weights, biases) in enumerate(layers):
            if number:
                x = np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x])
            x = x @ weights + biases
        scores = x.reshape(M, K) / temperature
        counted = [0.0] * K
        for m, v in enumerate(votes_of([row])[0]):
            counted[v] += math.sqrt(M) * K * softmax(scores[:, v].tolist())[m]
        q, t = softmax(own), softmax(counted)
        to_student.append(-math.fsum(tc * math.log(qc) for tc, qc in zip(t, q, strict=True)))
        to_encoder.append(-math.fsum(qc * math.log(tc) for tc, qc in zip(t, q, strict=True)))
    return to_student, to_encoder


def max_mig_start(p: Labels) -> tuple[Vector, np.ndarray[Any, Any]]:
    """Class shares and W (M, K, K)."""
    votes, M, K = votes_of(p), len(p[0]), len(p[0][0])
    W = np.zeros((M, K, K))
    for m, c, v in product(range(M), range(K), range(K)):
        said = [row.count(c) / M for row in votes]
        both = math.fsum(s for s, row in zip(said, votes, strict=True) if row[m] == v)
        W[m, c, v] = math.log(both / max(math.fsum(said), 1e-8) + 1e-4)
    return normalised([max(s, 0.01) for s in shares(votes, K, "votes")]), W


def max_mig(z: list[Vector], p: Labels, prior: Vector, W: np.ndarray[Any, Any]) -> Vector:
    """Loss of each example: what it shares with its own votes, and with those of the others."""
    K = len(prior)
    q, g = [softmax(own) for own in z], []
    for row in votes_of(p):
        g.append(softmax([math.log(prior[c]) + math.fsum(W[m, c, v] for m, v in enumerate(row)) for c in range(K)]))

    def common(i: int, j: int) -> float:
        return math.fsum(q[i][c] * g[j][c] / prior[c] for c in range(K))

    B = len(z)
    return [
        -math.log(common(i, i)) + math.fsum(common(i, j) for j in range(B) if j != i) / max(1, B - 1) for i in range(B)
    ]


LABEL_MODEL_TWINS: dict[str, tuple[str, ...]] = {
    **{name: ("test_targets_are_those_by_hand",) for name, _, _ in MODELS},
    "ebcc": ("test_ebcc_is_variational_bayes",),
    "weasel": ("test_weasel_by_hand",),
    "max_mig": ("test_max_mig_by_hand",),
}
