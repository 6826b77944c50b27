"""Options out of their range are refused, by all methods in the same words."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.api import Method, W2SError
from benchmark.core.registry import METHODS
from benchmark.testing import make_supervision
from methods._options import expect
from support.minibatch import Case


def refused(name: str, option: str, value: Any) -> None:
    """By a message that names all that the user wants to know."""
    labels = Case(3, 1 if METHODS[name].kind == "single" else 3, 0).labels
    with pytest.raises(W2SError, match=f"^{name}: expected .*{option}.*, found .*{re.escape(str(value))}"):
        METHODS[name](**{option: value}).start(make_supervision(labels))


def numbers(cls: type[Method]) -> list[str]:
    """Options that are no whole numbers."""
    return [own.name for own in fields(cls) if own.init and float in (own.type, *get_args(own.type))]


@pytest.mark.parametrize(("name", "option"), [(cls.name, option) for cls in METHODS for option in numbers(cls)])
def test_no_number_is_negative_or_none_at_all(name: str, option: str) -> None:
    for value in (-1.0, -1e-9, math.nan, math.inf):
        if option != "tolerance" or not value < 0:  # EM that never stops early
            refused(name, option, value)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("annotator_confusion", "rate", -0.1),
        ("dine", "gamma", 1.5),
        ("dine", "top", 0),
        ("dine", "rate", 0.0),
        ("dividemix", "temperature", 0.0),
        ("ebcc", "groups", 0),
        ("elr", "momentum", 1.0),
        ("gce", "power", 0.0),
        ("gce", "power", 1.5),
        ("knowledge_vote", "gate", 1.5),
        ("knowledge_vote", "final_gate", 1.5),
        ("raykar", "burn_in", 1.5),
        ("reliability", "keep", 0.0),
        ("reliability", "keep", 1.5),
        ("reliability", "temperature", 0.0),
        ("reverse_kl", "floor", 0.0),
        ("reverse_kl", "floor", 1.0),
        ("selc", "momentum", 1.0),
        ("selc", "turn", 1.5),
        ("small_loss", "forget", 1.0),
        ("snorkel", "steps", -1),
        ("weasel", "temperature", 0.0),
        ("weasel", "hidden", 0),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, option: str, value: float) -> None:
    refused(name, option, value)


class Rated(Method):
    name = "rated"
    rate: float


@given(st.floats(), st.floats(-3, 3), st.floats(0.1, 3), st.booleans(), st.booleans())
def test_an_interval_is_what_it_says(value: float, low: float, width: float, first: bool, last: bool) -> None:
    high, method = low + width, Rated()
    interval = f"{'[' if first else '('}{low}, {high}{']' if last else ')'}"
    for found in (value, low, high, math.nextafter(low, -9), math.nextafter(high, 9), (low + high) / 2):
        method.rate = found
        if low < found < high or (first and found == low) or (last and found == high):
            expect(method, rate=interval)
        else:
            with pytest.raises(W2SError, match=rf"^rated: expected rate in {re.escape(interval)}, found"):
                expect(method, rate=interval)
