"""Exercises: the file is taken apart without being run, and its windows are the recordings'."""

import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings

from benchmark.api import NotAvailable, W2SError
from support.laws import generators
from tasks import exercises
from tasks.exercises import ARMS, EXERCISES, STEP, WINDOW, Accelerometer, Exercises


@pytest.fixture(scope="module")
def recordings():
    try:
        return exercises._recordings()
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


@settings(max_examples=20)
@given(generators)
def test_a_pickle_is_taken_apart(rng):
    """Whatever is in the arrays, also bytes that look like the pickle's own."""
    arrays = [rng.normal(size=(rng.integers(30, 60), 6)) for _ in range(3)] + [rng.integers(0, 7, 140)]
    arrays[0] = np.asfortranarray(arrays[0])
    pickled = pickle.dumps({"X": arrays, "words": ["PEN", "ABD"]}, protocol=2)
    found = list(exercises._arrays(b"\x93NUMPY and a header\n" + pickled))
    assert len(found) == 4
    for (fortran, raw), array in zip(found, arrays, strict=True):
        got = np.frombuffer(raw, array.dtype).reshape(array.shape, order="F" if fortran else "C")
        assert np.array_equal(got, array)


def test_another_file_is_refused(monkeypatch, tmp_path):
    with zipfile.ZipFile(tmp_path / "wheel", "w") as wheel:
        wheel.writestr("seglearn/data/watch_dataset.npy", b"\x93NUMPY and something else\n")
    monkeypatch.setattr(exercises, "fetch_wheel", lambda **_: tmp_path / "wheel")
    with pytest.raises(W2SError, match=r"watch_dataset.npy: SHA-256 \w+, expected eb122f23"):
        exercises._recordings.__wrapped__()


def test_recordings(recordings):
    series, labels, persons, sides = recordings
    assert np.bincount(persons).tolist() == [0, *[14] * 10]
    assert [x.shape[1] for x in series] == [6] * 140
    for side in ARMS.values():  # ten persons did each exercise with either arm
        assert np.bincount(labels[sides == side]).tolist() == [10] * len(EXERCISES)
    # gravity: at rest an accelerometer shows 1 g
    assert 0.8 < np.median([np.linalg.norm(x[:, :3], axis=1).mean() for x in series]) < 1.3


@pytest.mark.parametrize("arm", ARMS)
def test_windows_are_their_recordings(arm, recordings):
    domain = exercises._domain(arm)
    windows = domain.load()
    assert windows.shape == (len(domain.labels), WINDOW, 6)
    assert np.isfinite(windows).all()
    for group in np.unique(domain.groups)[::10]:
        own = domain.groups == group
        series, labels, person, sides = (part[group] for part in recordings)
        assert sides == ARMS[arm]
        assert set(domain.score_groups[own]) == {person}
        assert set(domain.labels[own]) == {labels}
        for k, window in enumerate(windows[own]):
            np.testing.assert_allclose(window, series[k * STEP : k * STEP + WINDOW], rtol=1e-6)


def test_no_recording_is_in_both_domains(recordings):
    right, left = (set(exercises._domain(arm).groups) for arm in ARMS)
    assert not right & left
    assert len(right) == len(left) == 70


def test_supervisors_read_accelerations_only():
    rng = np.random.default_rng(0)
    series, labels = rng.normal(size=(40, 50, 6)), np.arange(40) % 2
    model = Accelerometer(learner="neighbours").fit(series, labels, 2, 0)
    other = series.copy()
    other[..., 3:] = 0
    assert np.array_equal(model.predict_proba(series), model.predict_proba(other))
    other[..., :3] = 0
    assert not np.array_equal(model.predict_proba(series), model.predict_proba(other))
    assert [s.domains for s in Exercises("right", "left").supervisors(0)] == [("right",)] * 4
