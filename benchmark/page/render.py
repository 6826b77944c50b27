"""One self-contained HTML file: the payload, the tables for readers without scripts, and the page's style and script.

The policy in its head allows the style and the script by their hashes and nothing else, no request to anywhere. Text
from results reaches the page in two ways: escaped here, or as JSON in a data block, of which the script makes text
nodes only.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from benchmark.analysis.cells import Analysis, analysis_of, keep_errors
from benchmark.base.files import write_output
from benchmark.page.data import page_payload
from benchmark.page.payload import Payload
from benchmark.reports.headline import (
    Column,
    TextColumn,
    broken_columns,
    family_column,
    headline_columns,
    ranked,
    references,
)
from benchmark.reports.publish import suites_beside
from benchmark.results.store import ResultStore

INDEX = "index.html"
_FOLDER = Path(__file__).parent
_SCRIPTS = ("dom.js", "figures.js", "tables.js", "page.js")  # one script, in this order


def write_page(results: Path, out: Path) -> Path:
    """Write the page of a results folder, with the suites beside a published one, and return where it is.

    Raises:
        W2SError: the folder holds no results, or the file can't be written.
    """
    path, stores = out / INDEX, [ResultStore(folder) for folder in suites_beside(results)]
    write_output(path, page(stores).encode())
    keep_errors(*stores)
    return path


def page(stores: Sequence[ResultStore]) -> str:
    """The HTML of these folders' results, the first shown first: the same bytes each time."""
    payload = page_payload(stores)
    tables = [_table(store.root.resolve().name, analysis_of(store)) for store in stores if analysis_of(store).records]
    return render(payload, "\n".join(tables))


def render(payload: Payload, tables: str = "") -> str:
    """The HTML of a payload. `tables` (HTML) stand there until the script has drawn its own, or for good without it."""
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:"
    parts = {
        "policy": f"{policy}; base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "payload": data_block(payload),
        "tables": tables,
    }
    return filled((_FOLDER / "page.html").read_text(encoding="utf-8"), parts)


def filled(template: str, parts: Mapping[str, str]) -> str:
    """Each `{{name}}` replaced by its part, once: what looks like one inside a part stays."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def data_block(value: object) -> str:
    """JSON that can stand in a `<script type="application/json">`: nothing in it ends the block or begins markup."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _table(name: str, analysis: Analysis) -> str:
    """The leaderboard's headline table, and beside it the mean over tasks with a broken supervisor."""
    columns: list[Column | TextColumn] = [
        *family_column(analysis),
        *headline_columns(analysis),
        *broken_columns(analysis)[:1],
    ]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in ("method", *(c.header for c in columns)))
    body = "\n".join(
        f'<tr><th scope="row">{escape(analysis.titles[row])} <code>{escape(row)}</code></th>'
        + "".join(f"<td>{escape(column.text(row))}</td>" for column in columns)
        + "</tr>"
        for row in (*ranked(analysis), *references(analysis))
    )
    return (
        f'<h2>Suite {escape(name)}</h2>\n<div class="scroll" role="region" aria-label="Suite {escape(name)}" '
        f'tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )
