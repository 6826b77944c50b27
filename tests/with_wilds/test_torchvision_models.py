"""Classifiers of torchvision: they learn, stop early, go on after a kill as if nothing had been, and say what is wrong.

Run with an environment that has torchvision; without it, only the message that says so is tested.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.base.errors import NotAvailable, W2SError
from benchmark.core.inputs import Lazy
from benchmark.encoders import images
from benchmark.store.checkpoints import Checkpoints
from tasks import _torchvision_models as torchvision_models
from tasks._torchvision_models import TorchvisionClassifier

SMALL = TorchvisionClassifier("resnet18", pixels=32, epochs=4, batch=16, lr=0.05, patience=4)
needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision")


def stripes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with horizontal or vertical stripes, (n, 40, 36, 3), and which of the two."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    x = rng.integers(0, 100, (n, 40, 36, 3))
    rows = np.arange(40)[:, None, None] // 8 % 2 * 120
    columns = np.arange(36)[None, :, None] // 8 % 2 * 120
    return (x + np.where(labels[:, None, None, None] == 0, rows, columns)).astype(np.uint8), labels


def weights_of(model) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def assert_equal_weights(a, b) -> None:
    a, b = weights_of(a), weights_of(b)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def checkpoints(folder: Path, recipe: TorchvisionClassifier = SMALL) -> Checkpoints:
    return Checkpoints(folder / "state.safetensors", json.dumps(asdict(recipe), sort_keys=True))


class Killed(Exception):
    pass


def kill_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    save, left = Checkpoints.save, [saves]

    def save_and_die(self, *args):
        save(self, *args)
        left[0] -= 1
        if not left[0]:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save_and_die)


@needs_torchvision
def test_learns_what_tells_the_classes_apart_from_lazy_pil_images() -> None:
    x, y = stripes(96, 0)
    before = torch.get_rng_state()
    recipe = replace(SMALL, epochs=8, patience=8)  # with 4 it depends on the processor's last bits
    model = recipe.fit(Lazy.of([Image.fromarray(image) for image in x]), y, 2, 1)
    new, truth = stripes(40, 1)
    p = model.predict_proba(new)
    assert p.shape == (40, 2)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    assert (p.argmax(1) == truth).mean() > 0.9
    np.testing.assert_array_equal(model.predict_proba(Lazy.of(new)), p)
    np.testing.assert_array_equal(model.predict_proba(new[::-1].copy()).argmax(1), p[::-1].argmax(1))
    assert torch.equal(torch.get_rng_state(), before)


@needs_torchvision
def test_the_seed_decides_and_the_number_of_readers_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = stripes(40, 0)
    recipe = replace(SMALL, epochs=2)
    first = recipe.fit(x, y, 2, 5)
    torch.manual_seed(99)
    monkeypatch.setattr(images, "readers", lambda device: 2)
    assert_equal_weights(recipe.fit(x, y, 2, 5), first)
    other = recipe.fit(x, y, 2, 6)
    assert any(not torch.equal(v, weights_of(other)[k]) for k, v in weights_of(first).items())


@needs_torchvision
@pytest.mark.parametrize(
    ("architecture", "validation"),
    [("squeezenet1_1", None), ("mobilenet_v3_small", None), ("mobilenet_v3_small", stripes(16, 1))],
    ids=["dropout", "batch norm", "early stopping"],
)
def test_a_killed_training_goes_on_identically(
    architecture: str, validation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = stripes(24, 0)
    recipe = TorchvisionClassifier(architecture, pixels=64, epochs=4, batch=8, patience=4)
    whole = recipe.fit(x, y, 2, 5, validation=validation)
    for saves in (1, 2):
        with monkeypatch.context() as patch:
            kill_after(patch, saves)
            with pytest.raises(Killed):
                recipe.fit(x, y, 2, 5, validation, checkpoints(tmp_path, recipe))
        torch.manual_seed(saves)  # what another process would have
    resumed = recipe.fit(x, y, 2, 5, validation, checkpoints(tmp_path, recipe))
    assert_equal_weights(resumed, whole)


@needs_torchvision
def test_a_finished_training_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = stripes(24, 0)
    recipe = replace(SMALL, epochs=2)
    first = recipe.fit(x, y, 2, 5, checkpoints=checkpoints(tmp_path, recipe))
    monkeypatch.setattr(TorchvisionClassifier, "_train", None)
    again = recipe.fit(x, y, 2, 5, checkpoints=checkpoints(tmp_path, recipe))
    assert_equal_weights(again, first)
    np.testing.assert_array_equal(again.predict_proba(x), first.predict_proba(x))


@needs_torchvision
def test_the_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    x, y = stripes(24, 0)
    recipe = replace(SMALL, epochs=1)
    recipe.fit(x, y, 2, 5, checkpoints=checkpoints(tmp_path, recipe))
    other = replace(recipe, lr=0.01)
    with pytest.raises(W2SError, match=r"other settings \(lr: found 0.05, expected 0.01\)"):
        other.fit(x, y, 2, 5, checkpoints=checkpoints(tmp_path, other))


@needs_torchvision
def test_the_best_epoch_is_kept_and_training_stops_when_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = stripes(24, 0)
    scores = [(0.5, -1.0), (0.8, -2.0), (0.8, -1.5), (0.8, -1.5), (0.7, -0.1), (0.9, -0.1)]
    seen: list[dict[str, torch.Tensor]] = []

    def score(self, network, *_):
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return scores[len(seen) - 1]

    monkeypatch.setattr(TorchvisionClassifier, "_score", score)
    model = replace(SMALL, epochs=6, patience=2).fit(x, y, 2, 5, validation=(x, y))
    assert len(seen) == 5  # the third was the best; the last one, better still, is not reached
    assert all(torch.equal(value, seen[2][name]) for name, value in weights_of(model).items())
    assert not torch.equal(seen[2]["fc.weight"], seen[4]["fc.weight"])


@needs_torchvision
def test_scores_are_accuracy_then_cross_entropy_on_the_validation_examples() -> None:
    x, y = stripes(20, 0)
    model = replace(SMALL, epochs=1).fit(x, y, 2, 5)
    accuracy, goodness = SMALL._score(model.network, x, y, "cpu")
    p = model.predict_proba(x)
    assert accuracy == (p.argmax(1) == y).mean()
    assert goodness == pytest.approx(np.log(p[np.arange(20), y]).mean(), rel=1e-5)


@needs_torchvision
def test_the_learning_rate_follows_the_schedule() -> None:
    rates = {
        schedule: [replace(SMALL, epochs=6, lr=1.0, schedule=schedule)._lr(epoch) for epoch in range(6)]
        for schedule in ("cosine", "step", "constant")
    }
    np.testing.assert_allclose(rates["cosine"], (1 + np.cos(np.pi * np.arange(6) / 6)) / 2)
    np.testing.assert_allclose(rates["step"], [1, 1, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_allclose(rates["constant"], 1)


@needs_torchvision
def test_crops_are_of_the_image_and_differ_by_epoch_and_position() -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :], (100, 1))
    crops = [torchvision_models._augmented(20, 0.3, False, 1, e, ramp, i) for e in range(3) for i in range(20)]
    assert all(crop.shape == (3, 20, 20) for crop in crops)
    spans = np.array([crop[0, 0, -1] - float(crop[0, 0, 0]) for crop in crops])
    assert (spans > 200 * np.sqrt(0.3 * 0.75) * 0.8).all()  # never less than the narrowest crop
    assert (spans < 200).all()
    assert len(np.unique(spans)) > 30
    mirrored = [torchvision_models._augmented(20, 0.3, True, 1, 0, ramp, i)[0, 0] for i in range(40)]
    assert 5 < sum(row[-1] < row[0] for row in mirrored) < 35


@pytest.mark.cuda
@needs_torchvision
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_learns_and_goes_on_with_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = stripes(96, 0)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            SMALL.fit(Lazy.of(x), y, 2, 5, (x, y), checkpoints(tmp_path), "cuda")
    model = SMALL.fit(Lazy.of(x), y, 2, 5, (x, y), checkpoints(tmp_path), "cuda")
    new, truth = stripes(40, 1)
    assert (model.predict_proba(new).argmax(1) == truth).mean() > 0.9


@needs_torchvision
def test_an_unknown_architecture_is_named_with_the_nearest() -> None:
    x, y = stripes(4, 0)
    with pytest.raises(W2SError, match="unknown architecture 'alexnt': did you mean 'alexnet'"):
        replace(SMALL, architecture="alexnt").fit(x, y, 2, 5)


@needs_torchvision
def test_images_too_small_for_the_architecture_are_refused() -> None:
    x, y = stripes(4, 0)
    with pytest.raises(W2SError, match=r"'alexnet' takes no images of 32 px .* set other pixels"):
        TorchvisionClassifier(pixels=32).fit(x, y, 2, 5)


@needs_torchvision
def test_a_full_gpu_is_told_with_the_option_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    x, y = stripes(24, 0)
    monkeypatch.setattr(torchvision_models, "_forward", full)
    with pytest.raises(W2SError, match=r"'resnet18' at 32 px: out of GPU memory with batch=16; try 8"):
        SMALL.fit(x, y, 2, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "cosin"}, "unknown schedule 'cosin': did you mean 'cosine'"),
        ({"batch": 0}, "batch is 0, expected at least 1"),
        ({"smallest_crop": 1.5}, "smallest_crop is 1.5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict, message: str) -> None:
    with pytest.raises(W2SError, match=message):
        replace(SMALL, **change)


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision_the_command_that_installs_it_is_named() -> None:
    x, y = stripes(4, 0)
    with pytest.raises(NotAvailable, match="torchvision is not installed; run: pip install torchvision"):
        SMALL.fit(x, y, 2, 5)
