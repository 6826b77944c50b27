"""The stream of minibatches: every example once an epoch, one stream a seed, large pools by blocks and windows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmark.base.torch_seeding import torch_rng
from benchmark.core import minibatches
from benchmark.core.minibatches import Minibatches, in_windows, one_ahead


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools are large from 41 examples on; windows of 32, in blocks of 8."""
    monkeypatch.setattr(minibatches, "WHOLE", 40)
    monkeypatch.setattr(minibatches, "SHUFFLE_BLOCK", 8)
    monkeypatch.setattr(minibatches, "WINDOW", 32)


sizes, batches = st.integers(5, 150), st.integers(1, 50)


@given(sizes, batches)
def test_an_epoch_holds_every_example_once_but_for_an_incomplete_minibatch(n: int, batch: int) -> None:
    stream = Minibatches((0, 1, 0), n, batch)
    first, second = stream.epoch(0), stream.epoch(1)
    B = min(batch, n)
    assert (stream.batch_size, stream.steps_per_epoch) == (B, n // B)
    assert first.shape == (n // B, 3, 1, B)
    for epoch in (first, second):
        for s in range(3):
            order = epoch[:, s].flatten()
            assert len(set(order.tolist())) == len(order)
            assert order.max() < n
    assert torch.equal(first[:, 0], first[:, 2]), "the seed alone decides"
    assert torch.equal(first, Minibatches((0, 1, 0), n, batch).epoch(0))
    if n // B * B > 20:  # else it may be chance
        assert not torch.equal(first[:, 0], first[:, 1])
        assert not torch.equal(first, second)


@given(sizes, batches)
def test_a_large_stream_goes_by_blocks_and_shuffles_windows_and_a_small_one_is_a_permutation(
    n: int, batch: int
) -> None:
    order = Minibatches((7,), n, batch).epoch(2).flatten()
    assert in_windows(n) == (n > 40)
    if n <= 40:
        expected = torch.randperm(n, generator=torch_rng("minibatches", 7, 2))
        assert torch.equal(order, expected[: len(order)])
    if n >= 80:
        firsts = {
            tuple(sorted(set((Minibatches((seed,), n, batch).epoch(0).flatten()[:32] // 8).tolist())))
            for seed in range(5)
        }
        assert len(firsts) > 1, "blocks come in random order"
    for window in order.split(32) if n > 40 else ():
        touched = torch.bincount(window // 8)
        assert (touched > 0).sum() <= 5  # four blocks, or the short one and what it shifts
        assert len(window) < 20 or (window.diff() != 1).sum() > len(window) / 2


@st.composite
def kept(draw: st.DrawFn) -> Tensor:
    """(1, H, N): of some examples, of all, or of none."""
    n = draw(sizes)
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    shares = torch.tensor(draw(st.lists(st.sampled_from((0.0, 0.1, 0.5, 1.0)), min_size=1, max_size=3)))
    return (torch.rand(len(shares), n, generator=rng) < shares[:, None])[None]


@given(kept(), batches)
def test_kept_examples_come_round_evenly_and_nothing_kept_keeps_all(keep: Tensor, batch: int) -> None:
    _, H, n = keep.shape
    stream = Minibatches((0,), n, batch, keep)
    drawn = torch.cat([stream.epoch(epoch) for epoch in range(4)])
    assert drawn.shape == (4 * stream.steps_per_epoch, 1, H, stream.batch_size), "as many steps as without"
    for h in range(H):
        counts = torch.bincount(drawn[:, 0, h].flatten(), minlength=n)
        own = keep[0, h] if keep[0, h].any() else torch.ones(n, dtype=torch.bool)
        assert counts[~own].sum() == 0
        assert counts[own].max() - counts[own].min() <= 1


@given(st.lists(st.integers()))
def test_one_ahead_gives_the_same_items_each_after_the_next_was_taken(items: list[int]) -> None:
    taken = []

    def source() -> object:
        for item in items:
            taken.append(item)
            yield item

    for position, item in enumerate(one_ahead(source())):
        assert item == items[position]
        assert len(taken) == min(position + 2, len(items))
    assert taken == items
