"""Random records for laws, and values of wrong types."""

from __future__ import annotations

import string
from typing import Any, get_args

from hypothesis import strategies as st

from benchmark.core.names import Family
from benchmark.core.records import Record, setting_hash

_hex = "0123456789abcdef"
_names = st.text(string.ascii_letters + string.digits + "_ä", min_size=1, max_size=5).map(lambda text: f"m{text}")
_texts = st.text(max_size=6)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(st.none() | st.booleans() | st.integers() | _floats | _texts, lambda x: st.lists(x, max_size=2))
_numbers = st.recursive(_floats, lambda inner: st.lists(inner, max_size=2))
_counts = st.integers(0, 10**9)

records = st.fixed_dictionaries(
    {
        "task": st.builds("{}-{}".format, _names, _names),
        "condition": st.sampled_from(("ind", "ood")),
        "method": _names,
        "seed": _counts,
        "title": st.text(min_size=1, max_size=6),
        "kind": st.sampled_from(("single", "ensemble", "canary")),
        "ablation_of": st.none() | _names,
        "family": st.none() | st.sampled_from(get_args(Family)),
        "metrics": st.dictionaries(_texts, st.floats(0, 1), max_size=2).map(lambda own: {**own, "accuracy": 0.5}),
        "diagnostics": st.dictionaries(_texts, _numbers, max_size=2),
        "hyperparameters": st.dictionaries(_texts, _json, max_size=2),
        "cost": _counts,
        "n_train": _counts,
        "n_test": st.integers(1, 99),
        "predictions_sha256": st.text(_hex, min_size=64, max_size=64),
        "evaluation_sha256": st.text(_hex, min_size=64, max_size=64),
        "device": _texts,
        "libraries": st.dictionaries(_texts, _texts, max_size=2),
        "commit": _texts,
        "data_fingerprint": _texts,
        "engine_version": st.integers(1, 9),
        "task_version": st.integers(1, 9),
        "method_version": st.integers(1, 9),
        "uses": st.sampled_from(((), ("features",), ("features", "source_scores"))),
        "source_sha256": st.none() | st.text(_hex, min_size=64, max_size=64),
    }
).map(lambda values: Record(setting=setting_hash(values["hyperparameters"]), **values))


def wrong(field: str) -> st.SearchStrategy[Any]:
    """JSON values of another type than a record's field has (a number is one within another type, too)."""
    kinds = {
        "number": st.integers(-9, 9) | st.floats(-9, 9),
        "word": st.sampled_from(("", "x", "1")),
        "flag": st.booleans(),
        "object": st.just({"x": {"y": []}}),
        "null": st.none(),
    }
    annotation = str(Record.model_fields[field].annotation)
    if "dict" in annotation:
        del kinds["object"]
    elif "int" in annotation:
        kinds["number"] = st.just(0.5)
    else:
        del kinds["word"]
    if "None" in annotation:
        del kinds["null"]
    return st.one_of(*kinds.values())
