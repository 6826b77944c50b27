"""Drawings: where they come on the canvas, and what can't be drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.api import W2SError
from tasks import _svg

SIDE = st.integers(8, 512)


def rectangle(width, height, ink="black"):
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    return f'<svg {box}><rect width="{width}" height="{height}" fill="{ink}"/></svg>'


@given(width=SIDE, height=SIDE)
def test_the_longer_side_fills_the_canvas_but_for_the_margin(width, height):
    ink = _svg.drawn(rectangle(width, height), 64, 8) < 128
    rows, columns = ink.any(1), ink.any(0)
    assert max(rows.sum(), columns.sum()) == 48
    assert min(rows.sum(), columns.sum()) == pytest.approx(48 * min(width, height) / max(width, height), abs=1.01)
    for line in (rows, columns):
        assert abs(line.argmax() - line[::-1].argmax()) <= 1  # in the middle


def test_ink_is_black_on_white_and_tones_are_between():
    tones = [_svg.drawn(rectangle(10, 10, ink), 32, 4) for ink in ("currentColor", "rgb(100, 100, 100)")]
    assert [image[16, 16] for image in tones] == [0, 100]
    assert all(image[0, 0] == 255 and image.dtype == np.uint8 and image.shape == (32, 32) for image in tones)


@pytest.mark.parametrize(("drawing", "problem"), [("<svg", "can't be read"), (rectangle(9, 9, "none"), "empty")])
def test_what_cannot_be_drawn_is_refused(drawing, problem):
    with pytest.raises(W2SError, match=problem):
        _svg.drawn(drawing, 32, 4)
