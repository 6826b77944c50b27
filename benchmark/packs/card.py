"""A pack's README.md: a data-set card as hubs show it."""

from __future__ import annotations

import json
from string import Template

from benchmark.packs.sheet import SHEET, Sheet

# licences that hubs know by an identifier; any other is `other`, and the card says which
_IDENTIFIERS = {
    "apache-2.0",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cdla-permissive-1.0",
    "mit",
}

_CARD = Template("""\
---
$licence
pretty_name: $pretty
tags: [weak-to-strong-generalization, w2s-bench, w2s-feature-pack]
viewer: false
---

# w2s-bench feature pack: $task

$shift. Modality: $modality. Classes: $classes. Task version $version.

$sharing.

Source: $citation. $size.

## What is in it

Frozen features (`$encoder`: $outputs), soft labels of $members weak supervisors, splits, groups and the truth, for the
conditions $conditions and the seeds $seeds: all that students and methods need, without the data or the encoder.
`$sheet` is the data sheet: provenance, supervisors' recipes, versions, and the size and SHA-256 of every file.

| file | tensors |
| --- | --- |
| `<condition>/features.safetensors` | output -> (n, D) float32: each example once |
| `<condition>/supervision-<seed>.safetensors` | `examples/<split>`: rows of it, or pairs; `soft_labels/<split>` |
| `<condition>/truth-<seed>.safetensors` | `labels/<split>` (n,), -1 unknown; `groups/<split>` (n,) |

**The truth is in it for scoring only.** A method that looks at `truth-*` measures nothing.

## How to run it

```
w2s run --pack DIR
```

DIR is this folder, or the id of this data set on a hub. Records are those of the full pipeline. A pack in which any
file was changed is refused.
""")


def card(sheet: Sheet) -> str:
    """The text; of the sheet all but the files is used."""
    task = sheet.card
    identifier = task.licence.strip().lower().replace(" ", "-")
    known = identifier in _IDENTIFIERS
    return _CARD.substitute(
        licence=f"license: {identifier}" if known else "license: other\nlicense_name: as-stated-in-this-card",
        pretty=json.dumps(f"w2s-bench pack: {sheet.task}"),
        task=sheet.task,
        shift=task.shift[:1].upper() + task.shift[1:],
        modality=task.modality,
        classes=", ".join(task.classes),
        version=sheet.task_version,
        sharing=sheet.sharing[:1].upper() + sheet.sharing[1:],
        citation=task.citation,
        size=task.size,
        encoder=sheet.encoder,
        outputs=", ".join(sheet.outputs),
        members=len(sheet.supervisors[0]),
        conditions=", ".join(sheet.conditions),
        seeds=", ".join(map(str, sheet.seeds)),
        sheet=SHEET,
    )
