"""Vector drawings become grey images."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from benchmark.api import W2SError

REQUIRES = {"resvg_py": "resvg-py", "PIL": "pillow"}


def drawn(svg: str, canvas: int, margin: int) -> NDArray[np.uint8]:
    """(canvas, canvas) grey, black on white: a whole SVG image in the middle, with `margin` px around its longer side.

    Raises:
        W2SError: it can't be drawn, or there is nothing on it.
    """
    from PIL import Image
    from resvg_py import svg_to_bytes

    box = canvas - 2 * margin
    try:
        png = svg_to_bytes(svg_string=svg, background="white", width=box, skip_system_fonts=True)
        image = Image.open(io.BytesIO(png)).convert("L")
        if image.height > box:  # the other side is the longer one
            png = svg_to_bytes(svg_string=svg, background="white", height=box, skip_system_fonts=True)
            image = Image.open(io.BytesIO(png)).convert("L")
    except ValueError as error:
        raise W2SError(f"a drawing can't be read: {error}") from error
    whole = Image.new("L", (canvas, canvas), 255)
    whole.paste(image, ((canvas - image.width) // 2, (canvas - image.height) // 2))
    pixels = np.asarray(whole)
    if pixels.min() == 255:
        raise W2SError("a drawing is empty")
    return pixels


def version() -> str:
    """Pixels are data: another version of the renderer may draw others."""
    from importlib.metadata import version as of

    return f"resvg-py {of('resvg-py')}|pillow {of('pillow')}"
