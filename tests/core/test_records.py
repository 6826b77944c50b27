"""Records and evaluations: what is written reads as it was, and what is not as promised is refused by its field."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmark.core.records import Evaluation, Record, SeedEvaluation, compact, digest, setting_hash
from benchmark.results.contents import reason
from support.laws import generators
from support.records import records, wrong
from support.synthetic import Task, entry, evaluation


@given(records)
def test_a_record_survives_its_own_line(record: Record) -> None:
    line = record.to_line()
    assert Record.model_validate_json(line) == record
    assert Record.model_validate_json(line).to_line() == line
    assert line.encode().splitlines() == [line.encode()]
    assert list(json.loads(line)) == sorted(json.loads(line))
    assert ("source_sha256" in json.loads(line)) == (record.source_sha256 is not None), "published lines lack it"
    assert ("uses" in json.loads(line)) == (record.uses != ()), "published lines lack it"
    with pytest.raises(ValidationError):
        record.seed = 3  # type: ignore[misc]


@given(records, st.sampled_from(sorted(Record.model_fields)), st.data())
def test_a_field_of_another_type_is_refused_by_its_name(record: Record, field: str, data: st.DataObject) -> None:
    value = data.draw(wrong(field))
    values = json.loads(record.to_line())
    for changed in (values | {field: value}, values | {field: [value, value]}):
        with pytest.raises(ValidationError) as refused:
            Record.model_validate_json(json.dumps(changed))
        assert field in {error["loc"][0] for error in refused.value.errors() if error["loc"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"accuracy": float("nan")}}, r"metrics\.accuracy\n.*finite"),
        ({"metrics": {"accuracy": 1.5}}, "less than or equal to 1"),
        ({"metrics": {"balanced_accuracy": 0.5}}, "'accuracy' is missing"),
        ({"diagnostics": {"weights": [0.5, float("nan")]}}, r"diagnostics\.weights.*\n.*finite"),
        ({"hyperparameters": {"x": 1}, "setting": "0" * 12}, "setting: found 000000000000"),
        ({"hyperparameters": {"x": float("nan")}, "setting": "0" * 12}, r"hyperparameters.*\n.*finite"),
        ({"method": "../elsewhere"}, "method"),
        ({"method": "_tasks"}, "method"),
        ({"task": "a/b"}, "task"),
        ({"seed": -1}, "seed"),
        ({"condition": "both"}, "condition"),
        ({"n_test": 0}, "n_test"),
        ({"task_version": 0}, "task_version"),
        ({"schema_version": 2}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
        ({"title": ""}, "title"),
        ({"surprise": 1}, r"surprise\n.*[Ee]xtra"),
    ],
)
def test_a_wrong_value_is_refused(changes: dict[str, Any], message: str) -> None:
    """In Python and in JSON, which knows NaN as well."""
    task = Task("a")
    good = entry(task, evaluation(task, "ood", range(2)), "raven", 0)[0].model_dump()
    Record(**good)
    with pytest.raises(ValidationError, match=message):
        Record(**{**good, **changes})
    with pytest.raises(ValidationError) as refused:
        Record.model_validate_json(json.dumps({**good, **changes}))
    assert next(iter(changes)) in reason(refused.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), values, min_size=1, max_size=4))
def test_setting_hash_depends_on_every_value_and_not_on_order(base: dict[str, Any]) -> None:
    assert setting_hash(dict(reversed(base.items()))) == setting_hash(base)
    assert len(setting_hash(base)) == 12
    others = [{**base, name: [value]} for name, value in base.items()] + [dict(list(base.items())[1:])]
    assert len({setting_hash(base), *map(setting_hash, others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("labels", np.full(150, -1), "seed 0: labels: no example has a known label"),
        ("labels", np.full(150, 2), "labels: found values 2..2, expected -1..1"),
        ("groups", np.zeros(149, int), r"groups: found shape \(149,\), expected \(150,\)"),
        ("supervisors", np.zeros((2, 150), int), r"supervisors: found shape \(2, 150\), expected \(3, 150\)"),
        ("ensemble", np.full(150, -1), "ensemble: found values -1..-1, expected 0..1"),
        ("ensemble", np.zeros(150), "ensemble: found float64"),
        ("majority", 2, "majority: found 2, expected 0..1"),
        ("splits", np.zeros(150, np.uint8), "no example has a known label in the test split"),
        ("splits", np.full(150, 3, np.uint8), "splits: found 3, expected 0..2"),
        ("splits", np.full(149, 2, np.uint8), r"splits: found uint8 \(149,\), expected uint8 \(150,\)"),
        ("splits", np.full(150, 2), r"splits: found int64 \(150,\), expected uint8"),
        ("metric", "f1", "unknown metric; known: accuracy, balanced_accuracy"),
    ],
)
def test_a_wrong_evaluation_is_refused(field: str, value: Any, message: str) -> None:
    good = evaluation(Task("a"), "ood", range(1))
    truth = SeedEvaluation(**{**vars(good.seeds[0]), **({} if field == "metric" else {field: value})})
    own = {"metric": value} if field == "metric" else {}
    with pytest.raises(ValidationError, match=message):
        Evaluation(**{**good.model_dump(), **own, "seeds": {0: truth}})


def test_whole_pools_and_test_splits_are_never_mixed() -> None:
    whole, test = (evaluation(Task("a", whole=whole), "ood", range(2)) for whole in (True, False))
    assert (whole.whole, test.whole) == (True, False)
    assert not whole.same_data(test)
    assert whole.same_data(evaluation(Task("a", whole=True), "ood", range(2, 4)))
    for seed in range(2):
        assert whole.seeds[seed].sha256 != test.seeds[seed].sha256, "which examples are scored counts"
    with pytest.raises(ValidationError, match="some seeds are of the whole pool, others of the test split"):
        Evaluation(**{**whole.model_dump(), "seeds": {0: whole.seeds[0], 1: test.seeds[1]}})


@given(generators, st.integers(1, 4), st.integers(1, 5), st.integers(1, 70_000))
def test_class_ids_are_kept_small_and_their_digest_is_of_shape_and_values(
    rng: np.random.Generator, replicas: int, n: int, classes: int
) -> None:
    ids = rng.integers(classes, size=(replicas, n))
    small = compact(ids)
    np.testing.assert_array_equal(small, ids)
    assert small.dtype == f"u{1 if ids.max() < 256 else 2 if ids.max() < 65536 else 4}"
    assert digest(ids) == digest(small) == digest(np.asfortranarray(ids))
    assert digest(ids + 1) != digest(ids)
    assert replicas == n or digest(ids.T) != digest(ids)
    with pytest.raises(ValueError, match="from 0"):
        compact(ids - 70_000)
    with pytest.raises(ValueError, match="float64"):
        compact(ids + 0.5)
