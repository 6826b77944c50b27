"""The headline table as LaTeX, in the form of the package booktabs."""

from collections.abc import Sequence
from textwrap import wrap

from benchmark.analysis.cells import Analysis
from benchmark.analysis.ranking import compare_pairs
from benchmark.reports.extras import extras
from benchmark.reports.headline import (
    Column,
    both_conditions,
    broken_columns,
    family_column,
    headline_columns,
    ranked,
    references,
)

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_SIGNS = str.maketrans({"±": r"$\pm$", "–": "--", "†": r"\textdagger{}"})


def escape(text: str) -> str:
    """Text that LaTeX sets as it is: no command, no comment, no paragraph; characters that don't print are left out."""
    printable = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return "".join(_SPECIAL.get(character, character) for character in printable)


def headline_latex(analysis: Analysis, suite: str) -> str:
    r"""A `tabular` to paste: methods, then canaries and reference rows; in bold the best and what is tied with it.
    Below it another one of the tasks with a broken supervisor, if there are any."""
    if broken := broken_columns(analysis):
        heading = "% Tasks with a broken supervisor: means over the supervisors that were broken."
        apart = [heading, *_tabular(analysis, broken)]
    else:
        apart = []
    lines = [
        r"% \usepackage{booktabs}",
        f"% w2s-bench, suite {escape(suite)}: percent, mean and half-width of the 95% interval. Means are over",
        "% families of means over their tasks, a plain one is over tasks; tasks with a broken supervisor are apart.",
        "% In bold the best of a column, and those that are not significantly worse (paired, Holm-corrected); no",
        "% ablations.",
        *(f"% {line}" for line in wrap(extras(analysis, both_conditions(analysis)).replace("`", ""), 100)),
        *_tabular(analysis, headline_columns(analysis)),
        *apart,
        "",
    ]
    return "\n".join(lines)


def _tabular(analysis: Analysis, columns: Sequence[Column]) -> list[str]:
    methods = ranked(analysis)
    tied = [_tied(column, analysis.competitors) for column in columns]
    family = family_column(analysis)
    headers = [*(column.header for column in family), *(column.header for column in columns)]

    def line(row: str) -> str:
        title = escape(analysis.titles[row]) + r" \emph{(ablation)}" * (row in analysis.ablations)
        texts = [escape(column.text(row)).translate(_SIGNS) for column in family]
        texts += [_cell(c.text(row), row in best) for c, best in zip(columns, tied, strict=True)]
        return " & ".join([title, *texts]) + r" \\"

    return [
        rf"\begin{{tabular}}{{l{'l' * len(family)}{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["method", *(escape(header).translate(_SIGNS) for header in headers)]) + r" \\",
        r"\midrule",
        *map(line, methods),
        r"\midrule",
        *map(line, references(analysis)),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _cell(text: str, best: bool) -> str:
    plain = escape(text).translate(_SIGNS)
    plain = f"$-${plain[1:]}" if plain.startswith("-") and plain[1:2].isdigit() else plain
    return rf"\textbf{{{plain}}}" if best else plain


def _tied(column: Column, rows: Sequence[str]) -> set[str]:
    """The column's best rows, and those that are not significantly worse than the first of them."""
    best = column.leaders(rows)
    if not best:
        return best
    pairs = compare_pairs([row for row in rows if column.full(row)], column.cells, column.plain)
    leader = pairs.rows.index(min(best))
    return best | {row for row, worse in zip(pairs.rows, pairs.better[leader], strict=True) if not worse}
