"""A pack's README.md: a data-set card as hubs show it."""

import json
import re
from pathlib import Path
from string import Template

from benchmark.packs.sheet import SHEET, Sheet

# licences that hubs know by an identifier; any other is `other`, and the card says which
_IDENTIFIERS = r"(apache-2|cc0-1|cc-by(-nc)?(-sa)?-4|cc-by-sa-3|cdla-permissive-1)\.0|mit"


def card(sheet: Sheet) -> str:
    """The text; of the sheet all but the files is used."""
    task = sheet.card
    identifier = task.licence.strip().lower().replace(" ", "-")
    known = re.fullmatch(_IDENTIFIERS, identifier)
    template = Template((Path(__file__).parents[1] / "templates" / "pack.md.txt").read_text(encoding="utf-8"))
    return template.substitute(
        {**vars(task), **vars(sheet)},
        licence=f"license: {identifier}" if known else "license: other\nlicense_name: as-stated-in-this-card",
        pretty=json.dumps(f"w2s-bench pack: {sheet.task}"),
        shift=task.shift[:1].upper() + task.shift[1:],
        classes=", ".join(task.classes),
        version=sheet.task_version,
        sharing=sheet.sharing[:1].upper() + sheet.sharing[1:],
        outputs=", ".join(sheet.outputs),
        members=len(sheet.supervisors[0]),
        conditions=", ".join(sheet.conditions),
        seeds=", ".join(map(str, sheet.seeds)),
        sheet=SHEET,
    )
