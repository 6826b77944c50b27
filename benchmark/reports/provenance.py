"""How results were made: from which code, on what, by which command."""

from collections.abc import Iterable, Sequence

from benchmark.base.text import listing
from benchmark.core.records import Record
from benchmark.results.layout import TUNED


def provenance(records: Sequence[Record]) -> dict[str, str]:
    """What there is to say, by its name."""

    def several(values: Iterable[str]) -> str:
        return listing(sorted(set(values)))

    return {
        "records": f"{len(records):,}",
        "seeds": listing([str(seed) for seed in sorted({record.seed for record in records})]),
        "engine version": several(str(record.engine_version) for record in records),
        "commit": several(record.commit for record in records),
        "device": several(record.device for record in records),
        "libraries": several(f"{name} {value}" for record in records for name, value in record.libraries.items()),
    }


def command(folder: str, tune: bool = False, conditions: str = "") -> str:
    """What makes the results of this folder, as a block of Markdown."""
    options = f" --suite {folder.removesuffix(TUNED)} --results results/{folder}"
    options += f" --conditions {conditions}" * bool(conditions)
    options = " --arrays FILE" if folder.startswith("arrays-") else options
    return f"```\nw2s run{' --tune' * tune}{options}\n```"
