"""`w2s export`: a suite's results for other programs."""

import importlib.util
import warnings
from io import BytesIO
from pathlib import Path

from benchmark.analysis.cells import analysis_with_records, keep_errors
from benchmark.base.errors import W2SError
from benchmark.base.files import write_output
from benchmark.base.notices import Say
from benchmark.reports.latex import headline_latex
from benchmark.reports.stress import without_stress
from benchmark.results.store import ResultStore

FORMATS = ("csv", "latex", "json", "parquet")


def export(results: Path, wanted: str, out: Path | None, say: Say, warn: Say) -> None:
    """Write all records (csv, json, parquet) or the headline table (latex) to a file, or say them.

    Args:
        out: None for text on standard output.
        warn: given each line of the results that was left out.

    Raises:
        W2SError: an unknown format, no results, parquet without a file or pyarrow, or the file can't be written.
    """
    if wanted not in FORMATS:
        raise W2SError(f"--format {wanted}: expected one of {', '.join(FORMATS)}")
    if wanted == "parquet" and out is None:
        raise W2SError("--format parquet: is no text; name a file with --out")
    if wanted == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise W2SError("--format parquet: needs pyarrow; pip install -c constraints.txt pyarrow")
    data = _latex(results, warn) if wanted == "latex" else _table(results, wanted, warn)
    if out is None:
        say(data.decode().removesuffix("\n"))
        return
    write_output(out, data)
    say(f"wrote {out}")


def _table(results: Path, wanted: str, warn: Say) -> bytes:
    from benchmark.analysis.frame import load_results  # pandas, which LaTeX does without

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = load_results(results)
    for warning in caught:
        warn(str(warning.message))
    if wanted == "csv":
        return str(frame.to_csv(index=False, lineterminator="\n")).encode()
    if wanted == "json":
        return str(frame.to_json(orient="records", double_precision=15, force_ascii=False)).encode() + b"\n"
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _latex(results: Path, warn: Say) -> bytes:
    store = ResultStore(results)
    analysis = analysis_with_records(store)
    for problem in analysis.problems:
        warn(f"{results}: {problem}")
    tasks = without_stress(analysis)
    if not tasks.cells:
        raise W2SError(
            f"{results}: holds stress curves only, which have no headline table; --format csv has all of them"
        )
    latex = headline_latex(tasks, results.resolve().name)
    keep_errors(store)
    return latex.encode()
