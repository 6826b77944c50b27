"""`w2s leaderboard`: writes or checks the Markdown of a results folder, and compares a run with what is published."""

from pathlib import Path

from benchmark.analysis.cells import keep_errors
from benchmark.base.files import write_output
from benchmark.base.notices import Say
from benchmark.reports.checks import Findings, agreement, check
from benchmark.reports.leaderboard import render, summary
from benchmark.results.layout import OLDER, RECORDS, TUNED
from benchmark.results.store import ResultStore

LEADERBOARD = "LEADERBOARD.md"


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
    folders = {path.parents[1] for path in (results / "..").resolve().glob(f"*/*/{RECORDS}")}
    same = results.resolve()
    ordered = sorted({same, *folders}, key=lambda path: (path.name != "default", path.name))
    return [results if path == same else results.parent / path.name for path in ordered]


def publish(results: Path, say: Say) -> None:
    """Write the tables and print the headline, and of a run also how far it agrees with what is published.

    Raises:
        W2SError: the folder holds no results, or the file can't be written.
    """
    path = markdown_path(results).resolve()
    stores = {suite: ResultStore(suite) for suite in suites_beside(results)}
    write_output(path, render(*stores.values()).encode())
    say(summary(stores[results]))
    say(f"\nwrote {path.name} of {results}")
    published = Path("results") / results.name
    if published.resolve() != results.resolve() and published.is_dir():
        stores[published] = ResultStore(published)
        for line in agreement(stores[results], stores[published]):
            say(line)
    keep_errors(*stores.values())


def check_published(results: Path, say: Say, stale: Findings) -> int:
    """Say what is wrong with the results and the page, and write nothing; returns the exit status.

    Args:
        stale: see `check`.
    """
    path = markdown_path(results).resolve()
    suites = suites_beside(results)
    findings = check(suites, path, stale)
    for finding in findings:
        say(finding)
    for suite in suites:
        if ResultStore(suite).older is not None:
            say(f"{suite}: of an older protocol, as its {OLDER} says")
    say(f"{results}: {len(findings)} findings" if findings else f"{results}: all adds up, {path.name} is current")
    return 1 if findings else 0
