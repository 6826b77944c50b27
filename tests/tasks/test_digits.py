"""Digits: facts of the data, one canvas for all sources, and supervisors that learn."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.core.pools import source_parts
from benchmark.core.registry import TASKS
from tasks import digits

SIZES = {"mnist": 5000, "uci": 1797, "fonts": 2520}


@pytest.fixture(scope="module")
def domains():
    return {name: TASKS["digits-to-mnist"].domain(name) for name in SIZES}


def faces(*names):
    """Files of faces, of whichever package."""
    with zipfile.ZipFile(digits._wheel()) as wheel:
        fetched = {Path(member).stem: member for member in wheel.namelist()}
        return {
            name: wheel.read(fetched[name]) if name in fetched else digits._FONTS.read(f"mpl-data/fonts/ttf/{name}.ttf")
            for name in names
        }


@pytest.mark.parametrize("name", SIZES)
def test_facts(domains, name):
    domain = domains[name]
    images = domain.load()
    assert images.shape == (SIZES[name], 28, 28)
    assert images.dtype == np.uint8
    assert domain.labels.shape == domain.groups.shape == (SIZES[name],)
    counts = np.bincount(domain.labels, minlength=10)
    assert counts.min() > 0.09 * SIZES[name]
    assert len(np.unique(domain.groups)) == (18 if name == "fonts" else SIZES[name])


@pytest.mark.parametrize("name", SIZES)
def test_ink_is_white_and_fills_the_box_in_the_middle(domains, name):
    images = domains[name].load() >= digits._INK
    rows, columns = images.any(2), images.any(1)
    heights, widths = (lines.shape[1] - lines.argmax(1) - lines[:, ::-1].argmax(1) for lines in (rows, columns))
    assert np.maximum(heights, widths).min() >= 18
    assert np.maximum(heights, widths).max() <= 22
    moved = 2 if name == "fonts" else 0
    for lines in (rows, columns):
        middles = lines.argmax(1) + (28 - lines[:, ::-1].argmax(1))
        assert np.abs(middles - 28).max() <= 3 + 2 * moved
    assert 0.05 < images.mean() < 0.3


def test_font_families_are_whole_and_of_one_size(domains):
    fonts = domains["fonts"]
    assert np.bincount(fonts.groups).tolist() == [140] * 18
    for family in range(18):
        assert np.bincount(fonts.labels[fonts.groups == family]).tolist() == [14] * 10


def test_every_face_draws_ten_different_digits():
    for family in (digits.BUNDLED | digits.FETCHED).values():
        for face in family:
            images = digits._render(faces(face)).reshape(10, digits.RENDERINGS, -1).mean(1)
            distances = np.linalg.norm(images[:, None] - images[None], axis=-1)[~np.eye(10, dtype=bool)]
            assert distances.min() > 250, face  # 6 and 9, or a face of boxes, would be nearer to each other


def test_renderings_differ_and_are_the_same_each_time(domains):
    images = domains["fonts"].load()
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 0.95 * len(images)
    again = digits._render(faces("cmss10"))
    assert (again == images[domains["fonts"].groups == 5]).all()


def test_the_faces_of_a_family_take_turns():
    images = digits._render(faces("DejaVuSans", "DejaVuSans-Bold"))
    assert images[1::2].mean() > 1.3 * images[::2].mean()


def test_cropping_takes_away_place_and_size():
    image = Image.new("L", (40, 40))
    image.paste(255, (3, 20, 7, 30))
    other = Image.new("L", (90, 90))
    other.paste(255, (50, 10, 62, 40))
    small, large = (digits._on_canvas(i) >= digits._INK for i in (image, other))
    assert 18 <= small.any(1).sum() <= 22
    assert np.abs(small.any(1).astype(int) - large.any(1)).sum() <= 2
    assert np.abs(small.any(0).astype(int) - large.any(0)).sum() <= 2
    with pytest.raises(digits.W2SError, match="empty"):
        digits._on_canvas(Image.new("L", (8, 8)))


def test_describing_a_domain_draws_no_image(monkeypatch):
    monkeypatch.setattr(digits, "_on_canvas", lambda *_: pytest.fail("an image was drawn"))
    for make in (digits._mnist, digits._uci, digits._fonts):
        make.__wrapped__()


def test_fingerprints_depend_on_the_files_and_on_pillow(domains, monkeypatch):
    assert len({d.fingerprint for d in domains.values()}) == 3
    assert digits._uci.__wrapped__().fingerprint == domains["uci"].fingerprint
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert digits._uci.__wrapped__().fingerprint != domains["uci"].fingerprint


def test_supervisors_beat_chance_on_their_own_domain(domains):
    task = TASKS["digits-to-mnist"]
    for supervisor in task.supervisors(0):
        domain = domains[supervisor.domains[0]]
        first, second = source_parts(domain, task.source_share, seed=0)
        assert len(first) >= 1000
        rows = np.random.default_rng(0).permutation(first)[: supervisor.size]
        images = domain.load()
        model = supervisor.model.fit(images[rows], domain.labels[rows], 10, seed=0)
        assert (model.predict_proba(images[second]).argmax(1) == domain.labels[second]).mean() > 0.4, supervisor
