"""What laws are tried on, for hypothesis: random numbers, of which it varies the seed, and tasks."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from support.made_up import Blobs

seeds = st.integers(0, 2**32 - 1)
generators = seeds.map(np.random.default_rng)
conditions = st.sampled_from(("ood", "ind"))


@st.composite
def blobs(draw: st.DrawFn, least: int = 150, most: int = 900) -> Blobs:
    """A task with domains of `least` to `most` examples, groups of one to four, of which some may be left out."""
    sizes = [draw(st.integers(least, most)) for _ in Blobs.DOMAINS]
    task = Blobs(
        sizes,
        group_size=draw(st.integers(1, 4)),
        unused=draw(st.sampled_from((0.0, 0.2))),
        ratings=draw(st.booleans()),
    )
    task.pair_gap = draw(st.sampled_from((0.5, 1.5)))
    return task
