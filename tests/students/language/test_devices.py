"""What a GPU would refuse, or wait for, in training and prediction of language models; shown without one.

Two stand-ins. A dispatch mode sees every operation of a step on the CPU, and knows those that make the host wait for a
value. Tensors on `meta` have no values: what reads one fails, and so does what mixes them with some of the CPU. (Fake
tensors that say they are on `cuda` can't be indexed by a torch that was built without CUDA.)
"""

from __future__ import annotations

import contextlib
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.core.adam import Adam
from benchmark.core.inputs import Prompted
from benchmark.students.language import log_probability
from benchmark.students.language import student as student_module
from benchmark.students.language.network import Network, Objective, Settings
from benchmark.students.language.sequences import Sequences
from benchmark.students.language.student import LanguageHeads, LanguageModel, LanguageStudent
from support.fake_cuda import HostReads
from support.tiny import DEPTH, Models, random_texts

N, H = 10, 3


def kind_of(model: str, objective: Objective, blocks: int | None = 2, **more: Any) -> LanguageModel:
    return LanguageModel(objective, 2, model, blocks, rank=2, max_tokens=20, **more)


def tokens_of(kind: LanguageModel) -> Sequences:
    rng = np.random.default_rng(0)
    sides = [[Prompted(p, r) for p, r in zip(random_texts(N, rng), random_texts(N, rng, 5), strict=True)] for _ in "ab"]
    tokens = kind.sequences(tuple(sides) if kind.pairs else random_texts(N, rng))
    return tokens.having(**{name: torch.from_numpy(v) for name, v in kind._frozen(tokens, "cpu").items()})


def student_of(kind: LanguageModel) -> tuple[LanguageStudent, Tensor]:
    """In training, and the minibatch that it expects."""
    student, index = kind.start([tokens_of(kind)], 2, (5,), H), torch.tensor([[[0, 3, 9, 4]]])
    student.expect(index[None])
    return student, index


CASES = [
    *product(["llama"], [2, None], ["classifier", "reward", "policy"]),
    *product(["gpt2"], [2], ["classifier", "policy"]),
    *product(["bert", "roberta"], [None], ["classifier", "reward"]),
]


@pytest.fixture(params=[{}, {"micro_batch": 2}, {"checkpointing": True}], ids=str)
def more(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def kind(request: pytest.FixtureRequest, models: Models, more: dict[str, Any]) -> LanguageModel:
    family, blocks, objective = request.param
    return kind_of(models[family], objective, blocks, **more)


def test_a_step_never_waits(monkeypatch: pytest.MonkeyPatch, kind: LanguageModel) -> None:
    """With the lengths of a GPU; backward pass and optimizer included."""
    monkeypatch.setattr(student_module, "_BUCKET", {"cpu": 32})
    student, index = student_of(kind)
    adam = Adam(student.parameters())
    with HostReads() as reads:
        gradients = student.gradients(student.logits(index).detach().softmax(-1))
        adam.step(gradients, 1e-3)
    assert reads.count == 0
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: bool((x > 0).all()),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.repeat_interleave(x, torch.tensor([1, 2, 0])),
        lambda x: torch.equal(x, x + 1),
        lambda x: x.unique(),
    ],
)
def test_the_mode_sees_host_reads(read: Any) -> None:
    x = torch.arange(3.0)
    with HostReads() as reads:
        read(x)
    assert reads.count


def without_values(student: LanguageStudent, kind: LanguageModel) -> None:
    """Move a student to `meta`: all but what the host knows."""
    student._network = Network(
        Settings(kind.model, kind.objective, 2, kind.blocks, kind.rank, kind.alpha, "meta", kind.checkpointing)
    )
    student._weights = [nn.Parameter(p.detach().to("meta")) for p in student.parameters()]
    student._inputs, student._begins_there = student._inputs.to("meta"), student._begins_there.to("meta")


def test_a_step_needs_no_values_and_nothing_of_the_cpu(monkeypatch: pytest.MonkeyPatch, kind: LanguageModel) -> None:
    student, index = student_of(kind)
    shape = student.logits(index).shape
    student.expect(index[None])
    without_values(student, kind)
    monkeypatch.setattr(log_probability.torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    logits = student.logits(index.to("meta"))
    assert (logits.shape, logits.device.type) == (shape, "meta")
    gradients = student.gradients(torch.ones_like(logits, requires_grad=False))
    assert [(g.shape, g.device.type) for g in gradients] == [(p.shape, "meta") for p in student.parameters()]


def test_the_trunk_follows_the_device(models: Models) -> None:
    net = Network(Settings(models["llama"], "policy", 2, 2, 2, 4, "meta", False))
    assert net.trunk is not None
    with net.trunk.below():  # the whole model
        tensors = {**dict(net.network.named_parameters()), **dict(net.network.named_buffers())}
        assert sum("layers.0." in name for name in tensors) > 0
        assert len(net.network.model.layers) == DEPTH
        assert {value.device.type for value in tensors.values()} == {"meta"}
    assert {value.device.type for value in net.fresh(0)} == {"meta"}


@pytest.mark.parametrize(("family", "blocks", "objective"), CASES)
def test_frozen_parts_and_predictions_are_made_on_the_device(
    models: Models, monkeypatch: pytest.MonkeyPatch, family: str, blocks: int | None, objective: Objective
) -> None:
    """What comes back to the host is made up here: `meta` has no values."""
    kind = kind_of(models[family], objective, blocks)
    student, _ = student_of(kind)
    tokens, lengths = tokens_of(kind), student_module.Lengths(tokens_of(kind))
    without_values(student, kind)
    monkeypatch.setattr(log_probability.torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(student_module, "Lengths", lambda sequences: lengths)
    (heads,) = student.split([H])
    assert isinstance(heads, LanguageHeads)
    probabilities = heads.predict([tokens.to("meta")])
    assert (tuple(probabilities.shape), probabilities.device.type) == ((1, H, N, 2), "meta")
    # the library asks once a batch whether there is padding; the states are made once, before training
    monkeypatch.setattr("transformers.masking_utils.fast_all", lambda mask: False)
    monkeypatch.setattr(Tensor, "cpu", lambda value: torch.zeros(value.shape, dtype=value.dtype))
    made = kind._frozen(tokens, "meta")
    assert made.keys() == kind._frozen(tokens, "cpu").keys()
    assert student._network.device == "meta"
