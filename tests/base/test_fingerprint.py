"""The names of cached and published things must stay what they are."""

from __future__ import annotations

from pathlib import Path

from benchmark.base.fingerprint import canonical, fingerprint
from benchmark.store.cache import Cache
from benchmark.store.checkpoints import Checkpoints

KEY = {"recipe": "made up", "seed": 1, "sizes": (2, 3), "ü": None}


def test_equal_values_have_one_text_and_one_hash() -> None:
    turned = dict(reversed(list(KEY.items())))
    assert canonical(turned) == canonical(KEY) == '{"recipe": "made up", "seed": 1, "sizes": [2, 3], "\\u00fc": null}'
    assert fingerprint(turned) == fingerprint(KEY) != fingerprint({**KEY, "seed": 2})


def test_files_have_the_names_that_they_had() -> None:
    assert Cache(Path("x")).path("features", KEY).stem == "c2919e62c9f710c0ad0cf3c610c16330"
    assert str(Checkpoints.of(Path("x"), KEY).path) == "x/checkpoints/31105b104b2c8ce744dd2afe0703dbf8.safetensors"
