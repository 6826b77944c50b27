"""The headline table as LaTeX, in the form of the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.analysis import Analysis
from benchmark.headline import Column, headline_columns, leaders, ranked, references
from benchmark.statistics import Sample, difference, estimate

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_SIGNS = {"±": r"$\pm$", "–": "--", "†": r"\textdagger{}"}


def escape(text: str) -> str:
    """Text that LaTeX sets as it is: no command, no comment, no paragraph; characters that don't print are left out."""
    printable = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return "".join(_SPECIAL.get(character, character) for character in printable)


def headline_latex(analysis: Analysis, suite: str) -> str:
    r"""A `tabular` to paste: methods, then canaries and reference rows; in bold the best and what is tied with it."""
    columns = headline_columns(analysis)
    methods = ranked(analysis)
    tied = [_tied(column, analysis.competitors) for column in columns]

    def line(row: str) -> str:
        title = escape(analysis.titles[row]) + r" \emph{(ablation)}" * (row in analysis.ablations)
        texts = [_cell(c.text(row), row in best) for c, best in zip(columns, tied, strict=True)]
        return " & ".join([title, *texts]) + r" \\"

    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            f"% w2s-bench, suite {escape(suite)}: percent, mean and half-width of the 95% interval. In bold the",
            "% best of a column, and those whose paired difference to it has an interval that holds 0; no ablations.",
            rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
            r"\toprule",
            " & ".join(["method", *(_signs(escape(column.header)) for column in columns)]) + r" \\",
            r"\midrule",
            *map(line, methods),
            r"\midrule",
            *map(line, references(analysis)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _cell(text: str, best: bool) -> str:
    plain = _signs(escape(text))
    plain = f"$-${plain[1:]}" if plain.startswith("-") and plain[1:2].isdigit() else plain
    return rf"\textbf{{{plain}}}" if best else plain


def _signs(text: str) -> str:
    return "".join(_SIGNS.get(character, character) for character in text)


def _tied(column: Column, rows: Sequence[str]) -> set[str]:
    """The column's best rows, and those that are not told apart from the first of them."""
    best = leaders(column, rows)
    if not best:
        return best
    leader = min(best)
    return best | {row for row in rows if column.full(row) and _indistinct(column, row, leader)}


def _indistinct(column: Column, row: str, leader: str) -> bool:
    pairs = [(column.quantity(cell, row), column.quantity(cell, leader)) for cell in column.cells]
    gaps = [difference(a, b) for a, b in pairs if a and b]
    known: list[Sample] = [gap for gap in gaps if gap]
    if len(known) < len(column.cells):
        return False
    gap = estimate(known)
    return abs(gap.mean) <= gap.half
