"""Tasks on the same data are of one family, in their cards and in what is published."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from benchmark.core.registry import TASKS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("task", "family"),
    [
        ("solar-mono-to-poly-broken-2", "solar"),
        ("digits-to-uci", "digits"),
        ("sentiment-to-nyt", "sentiment"),
        ("preference-to-tweets-broken-1", "sentiment"),
        ("lm-sentiment-to-amazon", "sentiment"),
        ("dpo-preference-to-amazon", "sentiment"),
        ("hh-harmless-to-helpful", "hh"),
        ("stress-preference-to-tweets-copies-2-1", "sentiment"),
        ("camelyon17-by-domain", "camelyon17"),
        ("fmow", "fmow"),
    ],
)
def test_tasks_on_the_same_data_are_of_one_family(task: str, family: str) -> None:
    assert TASKS[task].family == family


def test_published_evaluations_name_the_family_of_their_task() -> None:
    found = sorted((ROOT / "results").glob("*/_tasks/*.safetensors"))
    assert found
    for path in found:
        with safe_open(path, framework="np") as file:
            values = json.loads(file.metadata()["evaluation"])
        if values["task"] in TASKS:  # broken and stress tasks have had other names
            assert values["family"] == TASKS[values["task"]].family, path
