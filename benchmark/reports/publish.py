"""`w2s leaderboard`: writes or checks the Markdown of a results folder, and compares a run with what is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmark.base.files import atomic_write
from benchmark.reports.checks import check as find_faults
from benchmark.reports.checks import compare
from benchmark.reports.leaderboard import render, summary
from benchmark.results.layout import RECORDS, TUNED
from benchmark.results.store import ResultStore

LEADERBOARD = "LEADERBOARD.md"
_SHOWN = 20
StaleFindings = Callable[[ResultStore], list[str]]


def markdown_path(results: Path) -> Path:
    """Where the leaderboard of a results folder is: beside `results` for a published one, else in the folder."""
    return (results / ".." / ".." if _is_published(results) else results) / LEADERBOARD


def _is_published(results: Path) -> bool:
    return results.resolve().parent.name == "results"


def suites_beside(results: Path) -> list[Path]:
    """The folders whose tables stand on one page: all published suites, `default` first; else the folder and the
    tuned results that belong to it."""
    if not _is_published(results):
        tuned = results.parent / f"{results.name}{TUNED}"
        return [results, *([tuned] if results.name and any(tuned.glob(f"*/{RECORDS}")) else [])]
    folders = {path for path in (results / "..").resolve().iterdir() if any(path.glob(f"*/{RECORDS}"))}
    beside = {results.resolve(), *folders}
    same = results.resolve()
    ordered = sorted(beside, key=lambda path: (path.name != "default", path.name))
    return [results if path == same else results.parent / path.name for path in ordered]


def publish(results: Path, say: Callable[[str], None], check: StaleFindings | None = None) -> int:
    """Write the tables and print the headline, or only say what is wrong; returns the exit status.

    Args:
        check: see `checks.check`; with it nothing is written.

    Raises:
        W2SError: the folder holds no results.
    """
    path = markdown_path(results).resolve()
    suites = suites_beside(results)
    store = ResultStore(results)
    if check is not None:
        findings = find_faults(suites, path, check)
        for finding in findings:
            say(finding)
        say(f"{results}: {len(findings)} findings" if findings else f"{results}: all adds up, {path.name} is current")
        return 1 if findings else 0
    stores = [store if suite == results else ResultStore(suite) for suite in suites]
    atomic_write(path, render(*stores).encode())
    say(summary(store))
    say(f"\nwrote {path.name} of {results}")
    published = Path("results") / results.name
    if published.resolve() != results.resolve() and published.is_dir():
        found = compare(store, ResultStore(published))
        say(f"compared with {published}: {found.agree} of {found.total} cells agree within their intervals")
        for line in found.differing[:_SHOWN]:
            say(f"  {line}")
        if len(found.differing) > _SHOWN:
            say(f"  and {len(found.differing) - _SHOWN} more")
        for count, where in ((found.only_first, results), (found.only_second, published)):
            if count:
                say(f"  {count} cells are only in {where}")
    return 0
