"""How examples are dealt: source parts, pools, splits, preference pairs. Everything by seed and by group."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError
from benchmark.base.seeding import numpy_rng
from benchmark.core.data import SPLITS, Domain, Index, Pool
from benchmark.core.task import Task

SplitArrays = tuple[Index, Index, Index]  # examples, labels, groups
SHARES = (0.7, 0.1, 0.2)
# Of train splits, for `Task.train_sizes`: units of one size train together.
FEW_SIZES = (350, 500, 700, 1_000, 1_400, 2_000, 2_800)
VERSION = 2  # raise when the same seed would deal otherwise


def deal_by_group(groups: NDArray[Any], shares: Sequence[float], rng: np.random.Generator) -> list[Index]:
    """Positions of each part; whole groups are dealt, in random order, to the part that lacks most of its share."""
    unique, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    lacking = np.asarray(shares) * len(groups)
    part_of = np.empty(len(unique), dtype=np.int64)
    for group in rng.permutation(len(unique)):
        part_of[group] = lacking.argmax()
        lacking[part_of[group]] -= sizes[group]
    return [np.flatnonzero(part_of[inverse] == part) for part in range(len(shares))]


def rated(domain: Domain) -> bool:
    """Whether examples are single responses with ratings, from which pairs are made."""
    return domain.labels.dtype.kind == "f"


def inputs_of(domain: Domain, examples: Index) -> Index:
    """Positions of examples' inputs: (n,), or (n, 2) for given pairs (n,); made pairs (n, 2) are inputs already."""
    return 2 * examples[:, None] + np.arange(2) if domain.paired else examples


def used(domain: Domain) -> Index:
    """Positions of the examples that the task uses: a known class id, or a rating."""
    return np.flatnonzero(np.isfinite(domain.labels) if rated(domain) else domain.labels >= 0)


def source_parts(domain: Domain, share: float, seed: int) -> tuple[Index, Index]:
    """The part of a source domain on which supervisors train, and the part that goes into the `ind` pool."""
    examples = used(domain)
    if share == 1:
        return examples, examples[:0]
    rng = numpy_rng("source parts", domain.fingerprint, seed)
    first, second = deal_by_group(domain.groups[examples], (share, 1 - share), rng)
    return examples[first], examples[second]


def draw_pairs(ratings: NDArray[np.float64], count: int | None, gap: float, rng: np.random.Generator) -> Index:
    """Pairs (n, 2) of positions whose ratings differ by at least `gap`, each position in at most one pair.

    What a round of random matching leaves over is matched again. `count` cuts the result; sides stay shuffled.
    """
    left, pairs = np.arange(len(ratings)), []
    for _ in range(20):
        shuffled = rng.permutation(left)
        matched = shuffled[: len(shuffled) // 2 * 2].reshape(-1, 2)
        far = np.abs(ratings[matched[:, 0]] - ratings[matched[:, 1]]) >= gap
        pairs.append(matched[far])
        left = np.setdiff1d(left, pairs[-1])
    return np.concatenate(pairs)[:count]


def sample_pairs(ratings: NDArray[np.float64], count: int, gap: float, rng: np.random.Generator) -> Index:
    """`count` training pairs for a supervisor: as `draw_pairs`, but a position may be in several pairs."""
    rounds: list[Index] = []
    while sum(map(len, rounds)) < count:
        rounds.append(draw_pairs(ratings, None, gap, rng))
        if not len(rounds[-1]):
            raise W2SError(f"no two of {len(ratings)} ratings differ by {gap}: cannot make preference pairs")
    return np.concatenate(rounds)[:count]


def preferred(ratings: NDArray[np.float64], pairs: Index) -> Index:
    """(n,) class ids: 0 when the first response has the higher rating, else 1."""
    return (ratings[pairs[:, 1]] > ratings[pairs[:, 0]]).astype(np.int64)


def pool_domains(task: Task, condition: str) -> tuple[str, ...]:
    """The domains that a condition's pool is drawn from."""
    return (task.card.target,) if condition == "ood" else tuple(task.ind_domains or task.card.sources)


def draw_pool(task: Task, domains: dict[str, Domain], condition: str, seed: int) -> Pool:
    """The pool of one condition: the target domain, or the second parts of all source domains, mixed.

    At most `task.max_pool` examples; each domain is split 70/10/20 by group. Rated texts are split first and paired
    inside a split, each with one of its own domain. Sizes are cut to a round number, so that most seeds have pools
    of one size and train together.
    """
    names = pool_domains(task, condition)
    rng = numpy_rng("pool", seed, condition, *(domains[name].fingerprint for name in names))
    dealt: list[list[SplitArrays]] = []  # by domain and split
    start, first_group = 0, 0
    for domain in [domains[name] for name in names]:
        held_out = condition == "ind" and not task.ind_domains
        chosen = source_parts(domain, task.source_share, seed)[1] if held_out else used(domain)
        scored = domain.groups if domain.score_groups is None else domain.score_groups
        splits = []
        for rows in deal_by_group(domain.groups[chosen], SHARES, rng):
            examples = chosen[rows]
            if rated(domain):
                examples = examples[draw_pairs(domain.labels[examples], None, task.pair_gap, rng)]
                labels, leading = preferred(domain.labels, examples), examples[:, 0]
            else:
                labels, leading = domain.labels[examples].astype(np.int64), examples
            splits.append((inputs_of(domain, examples) + start, labels, scored[leading] + first_group))
        dealt.append(_cut(splits, _full_size(splits), rng))
        start += domain.num_inputs
        if domain.score_groups is None:  # else ids mean the same in every domain
            first_group += int(scored.max(initial=-1)) + 1
    mixed: list[SplitArrays] = [
        tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))  # type: ignore[misc]
        for parts in zip(*dealt, strict=True)
    ]
    size = int(_full_size(mixed) + 1e-9)
    size = size if task.max_pool is None else min(task.max_pool, size)
    size -= size % (100 if size >= 1000 else 10)
    if size < 10 or not all(len(rows) for rows, _, _ in mixed):
        found = ", ".join(f"{split} {len(rows)}" for split, (rows, _, _) in zip(SPLITS, mixed, strict=True))
        raise W2SError(f"task '{task.name}' ({condition}, seed {seed}): a split is empty or too small ({found})")
    cut = dict(zip(SPLITS, _cut(mixed, size, rng), strict=True))
    most = len(cut["train"][0]) if task.max_train is None else min(task.max_train, len(cut["train"][0]))
    most = max((size for size in task.train_sizes if size <= most), default=most)
    if most < len(cut["train"][0]):  # validation keeps its ratio; the test split stays whole
        for split, share in zip(("train", "val"), SHARES, strict=False):
            rows, labels, groups = cut[split]
            kept = round(most * share / SHARES[0])
            cut[split] = rows[:kept], labels[:kept], groups[:kept]
    columns = [{split: arrays[i] for split, arrays in cut.items()} for i in range(3)]
    return Pool(columns[0], columns[1], columns[2], names)


def _full_size(splits: Sequence[SplitArrays]) -> float:
    """Size of the largest pool whose train and test shares are there; validation may fall short of its own."""
    return min(len(splits[at][0]) / SHARES[at] for at in (0, 2))


def _cut(splits: Sequence[SplitArrays], size: float, rng: np.random.Generator) -> list[SplitArrays]:
    """Random parts of the splits, in random order, for a pool of this size: so a mixed pool has in every split the
    same share of each domain, also where a domain's groups are too large to be dealt evenly."""
    kept = [rng.permutation(len(split[0]))[: round(share * size)] for share, split in zip(SHARES, splits, strict=True)]
    return [(split[0][at], split[1][at], split[2][at]) for at, split in zip(kept, splits, strict=True)]
