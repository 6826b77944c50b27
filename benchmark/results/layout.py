"""The names in a folder of results, `results/<suite>/`.

_tasks/<task>-<condition>.safetensors   an `Evaluation`
<method>/records.jsonl                  its records, one a line, sorted
<method>/predictions.safetensors        "task/condition/setting/seed" -> (replicas, n) class ids
<method>/replies.jsonl                  what its policies answered, for judging
<method>/manifest.json, method.py, README.md
                                        of a submission
seconds.json                            what methods cost in processor seconds, measured apart
OLDER.md                                says, where it is, that tasks, methods or engine have changed since
"""

from pathlib import Path

from benchmark.core.records import RecordKey

TRUTH_FOLDER, RECORDS, PREDICTIONS = "_tasks", "records.jsonl", "predictions.safetensors"
MANIFEST, SOURCE, README = "manifest.json", "method.py", "README.md"
OLDER, SECONDS = "OLDER.md", "seconds.json"
TUNED = "-tuned"  # ends the name of the folder of tuned results that belongs to another folder


def truth_file(task: str, condition: str) -> str:
    """Where the `Evaluation` of a (task, condition) stands."""
    return f"{TRUTH_FOLDER}/{task}-{condition}.safetensors"


def method_folders(root: Path) -> list[Path]:
    """The folders of `results/<suite>` that belong to a method, sorted."""
    return sorted(path for path in root.glob("[!._]*") if path.is_dir())


def array_name(key: RecordKey) -> str:
    """The name of a record's predictions in the file of its method."""
    return f"{key.task}/{key.condition}/{key.setting}/{key.seed}"
