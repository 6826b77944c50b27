"""What a folder of results holds, read and checked; what can't be read is named and doesn't stop the rest."""

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from benchmark.base.errors import W2SError
from benchmark.core.records import Evaluation, Record, RecordKey, SeedEvaluation, compact, digest
from benchmark.results.layout import PREDICTIONS, RECORDS, TRUTH_FOLDER, method_folders, truth_file
from benchmark.results.lines import read_keyed, reason
from benchmark.results.trials import choice_fault, trial_count


@dataclass
class Contents:
    """What a suite's folder holds.

    Attributes:
        evaluations: by (task, condition).
        predictions: class ids (replicas, n), of a tuned record trial by trial (`benchmark.results.trials`).
        problems: one line for each thing that could not be read, beginning with its file (and line).
    """

    records: dict[RecordKey, Record] = field(default_factory=dict)
    evaluations: dict[tuple[str, str], Evaluation] = field(default_factory=dict)
    predictions: dict[RecordKey, NDArray[Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def misfit(self, record: Record) -> str | None:
        """Why a record can't be used with the evaluation and predictions that are here; None if it can."""
        name = truth_file(record.task, record.condition)
        evaluation = self.evaluations.get((record.task, record.condition))
        if evaluation is None:
            return f"{name} is missing"
        for what in ("task_version", "data_fingerprint"):
            if (found := getattr(record, what)) != (there := getattr(evaluation, what)):
                return f"{what}: found {found}, but {name} has {there}"
        if record.seed not in evaluation.seeds:
            return f"seed: {name} has no seed {record.seed}"
        if fault := choice_fault(record):
            return fault
        predictions = self.predictions.get(record.key)
        if predictions is None:
            return f"its predictions are missing from {record.method}/{PREDICTIONS}"
        replicas = (len(evaluation.supervisors) if record.kind == "single" else 1) * trial_count(record)
        truth = evaluation.seeds[record.seed]
        expected, n_test = (replicas, len(truth.labels)), int(truth.test.sum())
        if predictions.shape != expected or record.n_test != n_test:
            found = f"found shape {predictions.shape} and n_test {record.n_test}"
            return f"predictions: {found}, expected {expected}" + f" and {n_test}" * evaluation.whole
        if predictions.max() >= evaluation.num_classes:
            return f"predictions: found class id {predictions.max()}, expected 0..{evaluation.num_classes - 1}"
        if evaluation.seeds[record.seed].sha256 != record.evaluation_sha256:
            return f"evaluation_sha256: the truth or the supervisors' predictions in {name} are not those of the record"
        if digest(predictions) != record.predictions_sha256:
            return "predictions_sha256: the predictions are not those that the record was written with"
        return None


def read_contents(root: Path) -> Contents:
    """All of a folder, `results/<suite>`."""
    contents = Contents()
    for path in sorted((root / TRUTH_FOLDER).glob("*.safetensors")):
        try:
            evaluation = _read_evaluation(path)
            contents.evaluations[evaluation.task, evaluation.condition] = evaluation
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError, OSError) as error:
            contents.problems.append(f"{TRUTH_FOLDER}/{path.name}: {reason(error)}")
    for folder in method_folders(root):
        read_records(folder, contents)
        if (folder / PREDICTIONS).exists():
            read_predictions(folder, contents)
    return contents


def read_unit(path: Path) -> Contents:
    """From the copies of its files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in load_file(path).items():
            if Path(name).anchor or ".." in Path(name).parts:
                raise ValueError(f"'{name}' would lie outside this folder")
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            (Path(folder) / name).write_bytes(data.tobytes())
        return read_contents(Path(folder))


def _read_evaluation(path: Path) -> Evaluation:
    with safe_open(path, framework="np") as file:
        values = json.loads((file.metadata() or {})["evaluation"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if floats := [name for name, array in arrays.items() if array.dtype.kind not in "iu"]:
        raise ValueError(f"{floats[0]}: found {arrays[floats[0]].dtype}, expected integers")
    seeds = {
        int(seed): SeedEvaluation(
            labels=arrays[f"{seed}/labels"].astype(np.int64),
            groups=arrays[f"{seed}/groups"].astype(np.int64),
            supervisors=arrays[f"{seed}/supervisors"].astype(np.int64),
            ensemble=arrays[f"{seed}/ensemble"].astype(np.int64),
            majority=int(arrays[f"{seed}/majority"]),
            splits=arrays.get(f"{seed}/splits"),
        )
        for seed in sorted({name.partition("/")[0] for name in arrays})
    }
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    # files written before families had a name: the task is one by itself, until a run writes its evaluation again
    evaluation = Evaluation.model_validate({"family": values["task"], **values, "seeds": seeds})
    if path.name != f"{evaluation.task}-{evaluation.condition}.safetensors":
        raise ValueError(f"holds {evaluation.task}/{evaluation.condition}, which is not what its name says")
    return evaluation


def read_records(folder: Path, contents: Contents) -> None:
    """Add the records in the folder of a method."""
    records, problems = read_keyed(folder / RECORDS, Record)
    contents.records |= records
    contents.problems += problems


def read_predictions(folder: Path, contents: Contents) -> None:
    """Add the predictions in the folder of a method."""
    try:
        with safe_open(folder / PREDICTIONS, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                if not (found := re.fullmatch(r"([^/]+)/([^/]+)/([^/]+)/(\d+)", name)):
                    raise ValueError(f"tensor '{name}': expected task/condition/setting/seed")
                task, condition, setting, seed = found.groups()
                predictions = compact(file.get_tensor(name))
                contents.predictions[RecordKey(task, condition, folder.name, setting, int(seed))] = predictions
    except (ValueError, TypeError, AttributeError, SafetensorError, OSError) as error:  # types that numpy lacks
        contents.problems.append(f"{folder.name}/{PREDICTIONS}: {reason(error)}")


def no_results(root: Path, problems: Sequence[str] = ()) -> W2SError:
    """What to raise where a folder holds no results; the first problem may say why."""
    why = f" ({problems[0]})" if problems else ""
    return W2SError(f"{root}: no results there{why}; make some with `w2s run --results {root}`, or name another folder")
