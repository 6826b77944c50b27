"""Judged win rates and their table.

A reply that wins in both orders counts 1, one that loses in both 0, anything else (a tie, or verdicts that follow the
order) 1/2. Intervals are those of all scores, see `benchmark/analysis/statistics.py`: the bootstrap resamples prompts,
the same for all methods, seeds and replicas of a (task, condition).
"""

from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmark.analysis.bootstrap import bootstrap
from benchmark.analysis.format import number, percent
from benchmark.analysis.statistics import RESAMPLES, Sample, estimate
from benchmark.base.seeding import numpy_rng
from benchmark.base.text import escape, markdown, plain
from benchmark.core.metrics import Split
from benchmark.core.names import CONDITION_NAMES
from benchmark.core.records import RecordKey
from benchmark.judging.judgements import ORDERS, Judge, Judged, Order
from benchmark.judging.prompt import Verdict
from benchmark.results.replies import ReplyKey


class Row(NamedTuple):
    """What a win rate is about."""

    task: str
    condition: str
    method: str


@dataclass(frozen=True, eq=False)
class WinRate:
    """One judge's verdicts about one row.

    Attributes:
        sample: win rate per seed, with its resamples; None when nothing has been judged in both orders.
        replies, judged: how many there are, and of these judged in both orders.
        first_shown: of those judged, how many where the one that was shown first won in both orders.
        unit_seeds: of how many seeds there are replies in this (task, condition), whatever the method.
    """

    sample: Sample | None
    replies: int
    judged: int
    first_shown: int
    unit_seeds: int


def points(verdicts: Mapping[Order, Verdict]) -> float | None:
    """1, 1/2 or 0 for the reply; None until both orders have been asked."""
    if len(verdicts) < len(ORDERS):
        return None
    return {("A", "B"): 1.0, ("B", "A"): 0.0}.get((verdicts["reply first"], verdicts["reference first"]), 0.5)


def win_rates(judged: Judged, records: Container[RecordKey]) -> dict[Judge, dict[Row, WinRate]]:
    """Win rate of every row by every judge; replies of other records are left out."""
    replies = sorted(key for key in judged.replies if key.record in records)
    units: dict[tuple[str, str], dict[Row, list[ReplyKey]]] = defaultdict(lambda: defaultdict(list))
    for key in replies:
        record = key.record
        units[record.task, record.condition][Row(record.task, record.condition, record.method)].append(key)
    said: dict[Judge, dict[ReplyKey, dict[Order, Verdict]]] = {}
    for (reply, judge, order), judgement in judged.judgements.items():
        said.setdefault(judge, {}).setdefault(reply, {})[order] = judgement.verdict
    return {
        judge: {row: rate for rows in units.values() for row, rate in _unit(rows, verdicts).items()}
        for judge, verdicts in sorted(said.items())
    }


def _unit(
    rows: Mapping[Row, Sequence[ReplyKey]], verdicts: Mapping[ReplyKey, Mapping[Order, Verdict]]
) -> dict[Row, WinRate]:
    """The win rates of one (task, condition): each student is a split, and all splits share their resamples."""
    students: dict[tuple[Row, int, int], list[tuple[int, float]]] = defaultdict(list)  # row, seed, replica
    first_shown: dict[Row, int] = dict.fromkeys(rows, 0)
    for row, keys in rows.items():
        for key in keys:
            said = verdicts.get(key, {})
            if (value := points(said)) is not None:
                students[row, key.record.seed, key.replica].append((key.example, value))
                first_shown[row] += set(said.values()) == {"A"}
    splits = []
    for found in students.values():
        examples, values = map(np.array, zip(*found, strict=True))
        # The mean of two rows of hits is the value: 1 + 1, 1 + 0 or 0 + 0.
        misses = np.stack([values < 0.5, values < 1.0]).astype(np.int64)
        splits.append(Split(misses, np.zeros(len(found), np.int64), examples))
    unit = next(iter(rows))
    rng = numpy_rng("judged win rate", unit.task, unit.condition)
    replicates = bootstrap("accuracy", splits, RESAMPLES, rng) if splits else []
    unit_seeds = len({key.record.seed for keys in rows.values() for key in keys})
    rates = {}
    for row, keys in rows.items():
        own = [(seed, i) for i, (where, seed, _) in enumerate(students) if where == row]
        by_seed = {seed: [i for other, i in own if other == seed] for seed in sorted({seed for seed, _ in own})}
        sample = None
        if own:
            values = np.array([np.mean([splits[i].hits.mean() for i in at]) for at in by_seed.values()])
            resampled = np.array([np.mean([replicates[i].mean(0) for i in at], axis=0) for at in by_seed.values()])
            sample = Sample(tuple(by_seed), values, resampled)
        judged = sum(len(splits[i].labels) for _, i in own)
        rates[row] = WinRate(sample, len(keys), judged, first_shown[row], unit_seeds)
    return rates


def section(judged: Judged, records: Container[RecordKey]) -> str:
    """The leaderboard's section, in Markdown; empty when nothing has been judged."""
    rates = win_rates(judged, records)
    if not any(rate.judged for by_row in rates.values() for rate in by_row.values()):
        return ""
    headers, rows = _table(rates, escape)
    lines = [f"- {_bias(judge, rates[judge], escape(judge.model))}" for judge in rates]
    return (
        "## Judged win rate\n\n"
        "How often a language model prefers the student's reply to the data set's chosen response, in percent, mean ± "
        "half-width of the 95% interval (the bootstrap resamples prompts). Both orders are asked; a tie or verdicts "
        "that differ count half. *(k/n)*: only k of n replies are judged, and such means are not comparable with the "
        "rest.\n\n"
        f"{markdown(headers, [[*row[:2], f'`{row[2]}`', *row[3:]] for row in rows])}\n\n" + "\n".join(lines)
    )


def summary(judged: Judged, records: Container[RecordKey], judge: Judge) -> str:
    """One judge's table for the terminal."""
    rates = win_rates(judged, records)
    if judge not in rates:
        return f"nothing has been judged by {judge.model} yet"
    headers, rows = _table({judge: rates[judge]}, str)
    legend = "win rate in percent, mean ± half-width of the 95% interval; (k/n): k of n replies judged; †: fewer seeds"
    return f"{plain(headers, rows)}\n\n{legend}\n{_bias(judge, rates[judge], judge.model)}"


def _table(
    rates: Mapping[Judge, Mapping[Row, WinRate]], shown: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows, a column a judge; in a (task, condition) the best by the first judge stands first."""
    first = next(iter(rates.values()))

    def place(row: Row) -> tuple[bool, str, float, str]:
        sample = first[row].sample
        return row.condition != "ood", row.task, -sample.mean if sample else 0.0, row.method

    rows = sorted((row for row in first if any(rates[judge][row].judged for judge in rates)), key=place)
    headers = ["task", "condition", "method"]
    headers += [f"{shown(judge.model)} (prompt version {judge.prompt_version})" for judge in rates]
    by_judge = rates.values()
    return headers, [[r.task, CONDITION_NAMES[r.condition], r.method, *(_cell(of[r]) for of in by_judge)] for r in rows]


def _cell(rate: WinRate) -> str:
    if rate.sample is None:
        return "not judged"
    lack = f" ({rate.judged}/{rate.replies})" if rate.judged < rate.replies else ""
    return percent(estimate([rate.sample]), of_runs=rate.unit_seeds) + lack


def _bias(judge: Judge, rates: Mapping[Row, WinRate], name: str) -> str:
    judged = sum(rate.judged for rate in rates.values())
    replies = sum(rate.replies for rate in rates.values())
    share = number(sum(rate.first_shown for rate in rates.values()) / judged) if judged else "–"
    return (
        f"{name} (prompt version {judge.prompt_version}): {judged:,} of {replies:,} replies judged; position bias: "
        f"the one shown first won in both orders in {share}%"
    )
