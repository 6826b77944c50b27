"""Recorded steps against steps by Python: what can be recorded is equal bit by bit, and what can't is said.

Each test runs on a tape, and on a GPU, where there is one, with CUDA graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.base.errors import MethodFailed
from benchmark.core import recording
from benchmark.core.data import Recipe
from benchmark.core.losses import cross_entropy
from benchmark.core.method import Batch, Method, Supervision
from benchmark.core.recording import CudaGraphs, Recorder, Tape
from benchmark.core.registry import METHODS
from benchmark.core.rehearsal import Rehearsal
from benchmark.core.replay import say_once
from benchmark.core.training import Trained, TrainingData, train
from benchmark.core.watched import Epoch, Notes, Share
from benchmark.students.linear import Heads
from benchmark.testing import make_data
from support.by_python import train_by_python

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
RECIPE = Recipe(learning_rate=1e-2, epochs=5, batch_size=8)  # 8 steps an epoch
DATA = make_data(examples=64)


class Way:
    """How steps are recorded, and where; it counts recordings."""

    def __init__(self, device: str) -> None:
        self.device, self.count = device, 0
        self._recorder: Recorder = Tape() if device == "cpu" else CudaGraphs(torch.device(device))

    def running(self) -> AbstractContextManager[Any]:
        return self._recorder.running()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.count += 1
        return self._recorder.record(work)

    def here(self, data: TrainingData) -> TrainingData:
        features = {name: x.to(self.device) for name, x in data.features.items()}
        return replace(data, features=features, soft_labels=data.soft_labels.to(self.device))

    def both(self, make: Callable[[], list[Method]], data: TrainingData = DATA) -> int:
        """Train by Python and by recordings; the results are equal. Gives the number of recordings."""
        data = self.here(data)
        plain, recorded = train_by_python(make(), data, RECIPE), train(make(), data, RECIPE, recorder=self)
        for a, b in zip(plain, recorded, strict=True):
            assert self.equal(a, b), a.method.name
        return self.count

    def equal(self, a: Trained, b: Trained) -> bool:
        """Bit by bit on a tape; on a GPU to rounding: for a recording the learning rate is float32."""
        assert a.diagnostics.keys() == b.diagnostics.keys()
        assert isinstance(a.student, Heads)
        assert isinstance(b.student, Heads)
        pairs = [(a.student.weight, b.student.weight), *((a.diagnostics[n], b.diagnostics[n]) for n in a.diagnostics)]
        if self.device == "cpu":
            return all(torch.equal(x, y) for x, y in pairs)
        return all(torch.allclose(x, y, rtol=1e-5, atol=1e-6) for x, y in pairs)


@pytest.fixture(autouse=True)
def _unsaid() -> None:
    say_once.cache_clear()


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


@pytest.mark.parametrize("name", METHODS.names())
def test_nothing_in_a_published_method_keeps_a_gpu_from_recording_it(name: str) -> None:
    """On a device without values: no constant is on the CPU, nothing is read, no shape depends on what is read."""
    method, data = METHODS[name](), make_data(examples=64)
    single = method.kind == "single"
    given = data.soft_labels.flatten(0, 1).unsqueeze(2) if single else data.soft_labels.transpose(1, 2)
    R, _, _, K = given.shape
    cpu, there = torch.device("cpu"), torch.device("meta")
    generators = tuple(torch.Generator() for _ in range(R))
    method.start(Supervision(given, K, 5, 8, 40, generators, cpu, ("own",)))
    for attribute, value in vars(method).items():
        if isinstance(value, Tensor):
            setattr(method, attribute, value.detach().to(there).requires_grad_(value.requires_grad))
        elif isinstance(value, torch.optim.Optimizer) and value.defaults["fused"]:
            value.step = lambda: None  # type: ignore[method-assign]  # a kernel that this device has not
    share, soft_labels = torch.zeros((), dtype=torch.float64, device=there), given[:, :8].to(there)
    for epoch, progress in ((0, 0.1), (4, 0.9)):  # before and after warm-ups
        notes = Notes(lambda: method)
        now: Any = Epoch(epoch, lambda e, p: e, notes), Share(progress, lambda e, p: p, notes, lambda: share)
        logits = torch.zeros(R, 8, K, device=there, requires_grad=True)
        index = torch.zeros(R, 8, dtype=torch.int64, device=there)
        with Rehearsal(there, lambda: method) as seen:
            loss = method.loss(logits, Batch(soft_labels, index, *now))
            torch.autograd.backward([loss], [torch.ones_like(loss)])
            method.after_step()
        assert seen.reasons == {}


@pytest.mark.parametrize(("K", "pairs"), [(2, False), (10, False), (2, True)])
def test_all_published_methods_are_recorded(way: Way, K: int, pairs: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """In one run, with methods of several stages; none falls back."""
    data = make_data(classes=K, pairs=pairs, examples=64)
    recordings = way.both(lambda: [METHODS[name]() for name in METHODS.names()], data)
    assert recordings <= 20  # five stages; RAVEN's easy phase, the confidence losses' warm-up and margins flip
    assert capsys.readouterr().err == ""


class Kept(Method):
    """A mean logit that is moved in every step; subclasses say how."""

    name = "kept"
    title = citation = "test"
    kind = "ensemble"

    def start(self, supervision: Supervision) -> None:
        self.mean = torch.zeros(len(supervision.soft_labels), 1, 1, device=supervision.device)
        self.setup()

    def setup(self) -> None:
        """More state."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        target = (batch.soft_labels.mean(2) + 0.1 * torch.tanh(self.mean + self.extra(logits, batch))).softmax(-1)
        self.move(0.9 * self.mean + 0.1 * logits.detach().mean((1, 2), keepdim=True))
        return cross_entropy(logits, target)

    def move(self, mean: Tensor) -> None:
        self.mean.copy_(mean)

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return 0.0

    def diagnostics(self) -> dict[str, Tensor]:
        return {"mean": self.mean.flatten()}


class Rebinds(Kept):
    def move(self, mean: Tensor) -> None:
        self.mean = mean


class KeepsTheOneBefore(Kept):
    """A chain of attributes, none of whose memory is read by an operation when it is handed on."""

    def setup(self) -> None:
        self.before = self.older = self.mean.clone()

    def move(self, mean: Tensor) -> None:
        self.older = self.before
        self.before = self.mean
        self.mean = mean

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return self.older


class MakesItLater(Kept):
    """Another way through its code from the second step on."""

    def move(self, mean: Tensor) -> None:
        if hasattr(self, "slow"):
            self.slow = 0.5 * self.slow + mean
        else:
            self.slow = mean.clone()
        self.mean = mean + self.slow


class OwnMomentum(Kept):
    def setup(self) -> None:
        self.shift = torch.zeros_like(self.mean, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.shift], lr=0.1, momentum=0.9)

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return self.shift

    def after_step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class OneStepLate(OwnMomentum):
    """A gradient is used in the step after its own."""

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.shift

    def after_step(self) -> None:
        pass


class KeepsEpoch(Kept):
    """It asks nothing of the epoch before the end."""

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        self.epoch = batch.epoch
        return 0.0

    def diagnostics(self) -> dict[str, Tensor]:
        return {"epoch": torch.full((len(self.mean),), self.epoch)}


class AsksLate(Kept):
    """Of the epoch of the step before, and of when something was seen first."""

    def setup(self) -> None:
        self.epoch = self.since = 0

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        late = 0.5 if self.epoch < 2 else 1 / (1 + self.epoch)
        self.epoch = batch.epoch
        if batch.epoch == 3 and not self.since:
            self.since = batch.epoch
        return late

    def diagnostics(self) -> dict[str, Tensor]:
        return {"since": torch.full((len(self.mean),), self.since)}


class AsksNow(Kept):
    """Questions with few answers: by comparison, as a whole number, by an epoch's parity, by `min`."""

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        if batch.epoch < 2:
            return (0.5, 0.4, 0.3)[int(batch.progress * 5)]  # others in the last steps of epochs 0 and 1
        return min(0.7, batch.progress) if batch.epoch % 2 else torch.lerp(self.mean, -self.mean, batch.progress)


class Calculates(Kept):
    """Arithmetic of progress and tensors, on both sides."""

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        p = batch.progress
        number = (1 - p) * 2 + p / 3 + -p - (2 / (1 + p)) ** 2 + p * p
        return self.mean * number + number / (2 + self.mean) + torch.where(self.mean > 0, p, 0.0)


@pytest.mark.parametrize(
    "method", [Kept, Rebinds, KeepsTheOneBefore, MakesItLater, OwnMomentum, OneStepLate, KeepsEpoch]
)
def test_state_that_is_safe(way: Way, method: type[Method], capsys: pytest.CaptureFixture[str]) -> None:
    assert way.both(lambda: [method()]) == 1
    assert capsys.readouterr().err == ""


def test_questions_cost_a_recording_each_time_that_the_answer_changes(
    way: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    assert way.both(lambda: [Calculates()]) == 1
    way.count = 0
    assert way.both(lambda: [AsksLate()]) <= 2 * RECIPE.epochs
    way.count = 0
    assert way.both(lambda: [AsksNow()]) == 2 + 3 + 1  # epochs 0 and 1; 2, 3, 4; and in 3 where progress passes 0.7
    assert capsys.readouterr().err == ""


class ReadsValue(Kept):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return float(self.mean.max())


class ReadsList(Kept):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return sum(self.mean.flatten().tolist())


class ReadsArray(Kept):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return float(np.mean(np.asarray(self.mean.cpu())))


class AsksTensor(Kept):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return 0.1 if (self.mean > 0).all() else 0.2


class Masks(Kept):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return logits.detach()[batch.index > 30].mean()


class Draws(Kept):
    def start(self, supervision: Supervision) -> None:
        self.generators = supervision.generators[0]
        super().start(supervision)

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return torch.rand(1, generator=self.generators).to(self.mean.device)


class Counts(Kept):
    def setup(self) -> None:
        self.steps = 0

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        self.steps += 1
        return 1 / self.steps


class KeepsList(Kept):
    def setup(self) -> None:
        self.all = [self.mean]

    def move(self, mean: Tensor) -> None:
        self.all[0] = mean

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return self.all[0]


@dataclass(eq=False)
class KeepsListInField(KeepsList):
    all: list[Tensor] = field(default_factory=list, init=False)


class SwapsViews(Kept):
    """Of one tensor, so that its memory stays the same."""

    def setup(self) -> None:
        self.mean, self.other = self.mean.repeat(2, 1, 1, 1).unbind()

    def move(self, mean: Tensor) -> None:
        self.other.copy_(mean)
        self.mean, self.other = self.other, self.mean


class _Averaged(torch.optim.Optimizer):
    """Its state is a number, and memory that is made anew in each step."""

    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            own = self.state[p]
            own["steps"] = own.get("steps", 0) + 1
            own["mean"] = 0.9 * own.get("mean", 0) + p.grad
            p.data.sub_(own["mean"] / own["steps"])


class OwnOptimizer(OwnMomentum):
    def setup(self) -> None:
        super().setup()
        self.optimizer = _Averaged([self.shift], {})


class AsksExactly(Kept):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return math.cos(batch.progress)  # type: ignore[arg-type]


class OwnAdam(Kept):
    def setup(self) -> None:
        self.shift = torch.zeros_like(self.mean, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.shift], lr=0.1, foreach=False)

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return self.shift

    def after_step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class OnlyPlainNumbers(Kept):
    """It fails with a watched number, after it has changed its state."""

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        self.mean.add_(0.1)
        return torch.tensor(batch.progress)


FALLS_BACK = {
    ReadsValue: "a value of a tensor is read by Python (extra, line",
    ReadsList: "a value of a tensor is read by Python (extra, line",
    ReadsArray: "",  # on a GPU, that the tensor is on another device
    AsksTensor: "a value of a tensor is read by Python (extra, line",
    Masks: "a shape depends on values (extra, line",
    Draws: "random numbers are drawn in every step (extra, line",
    Counts: "attributes change from step to step: steps",
    KeepsList: "it may keep state in all, which is no tensor or number",
    KeepsListInField: "it may keep state in all, which is no tensor or number",
    SwapsViews: "attributes change from step to step: mean, other",
    OwnOptimizer: "attributes change from step to step: optimizer",
    AsksExactly: "it asks for progress or epoch as a Python number",
    OwnAdam: "a value of a tensor is read by Python (after_step, line",
    OnlyPlainNumbers: "Could not infer dtype of Share",
}


@pytest.mark.parametrize("method", FALLS_BACK, ids=lambda method: method.__name__)
def test_what_cannot_be_recorded_is_trained_by_python_beside_the_others(
    way: Way, method: type[Method], capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal results, one line that says why, and the other methods stay recorded."""
    assert way.both(lambda: [METHODS["naive"](), method(), METHODS["raven"]()]) >= 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"method 'kept' is trained without a graph: {FALLS_BACK[method]}"), lines[0]


class FailsAfterTheStep(OnlyPlainNumbers):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        self.progress = batch.progress
        return 0.0

    def after_step(self) -> None:
        self.mean.add_(torch.tensor(self.progress))


class DrawsOfAll(Draws):
    def start(self, supervision: Supervision) -> None:
        super().start(supervision)
        self.generators = supervision.generators  # type: ignore[assignment]

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        return torch.stack([torch.rand(1, 1, generator=g) for g in self.generators]).to(self.mean.device)


def test_a_rehearsal_that_fails_leaves_no_trace(way: Way) -> None:
    """Gradients, moments and draws of those that were through with the step when another one failed."""
    way.both(lambda: [OwnMomentum(), OneStepLate(), DrawsOfAll(), FailsAfterTheStep(), OwnMomentum()])


def test_one_method_alone_that_cannot_be_recorded(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    assert way.both(lambda: [ReadsValue()]) == 0
    assert "without a graph" in capsys.readouterr().err


class Fails(Kept):
    def extra(self, logits: Tensor, batch: Batch) -> Any:
        raise ValueError("a fault of its own")


def test_a_method_that_fails_fails_as_without_recordings(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MethodFailed, match="a fault of its own"):
        train([METHODS["naive"](), Fails()], way.here(DATA), RECIPE, recorder=way)
    assert capsys.readouterr().err == ""


class Broken(Way):
    """Recording fails in the middle of the work, as a capture that meets what no rehearsal saw."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        def fails() -> None:
            work()
            raise RuntimeError("operation not permitted when stream is capturing")

        return super().record(fails)


def test_a_recording_that_fails_leaves_no_trace(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    assert Broken(way.device).both(lambda: [METHODS["raven"](), Rebinds()]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("recording failed: operation not permitted" in line for line in lines)


class FailsToBeRecorded(Kept):
    """What no rehearsal sees: an operation that waits for the GPU inside."""

    def extra(self, logits: Tensor, batch: Batch) -> Any:
        if self.recording():
            raise RuntimeError("operation not permitted when stream is capturing")
        return 0.0

    @staticmethod
    def recording() -> bool:
        return False


def test_a_method_whose_recording_fails_goes_aside_alone(
    way: Way, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, busy = way.record, []

    def record(work: Callable[[], None]) -> Callable[[], None]:
        busy.append(1)
        try:
            return plain(work)
        finally:
            busy.pop()

    monkeypatch.setattr(way, "record", record)
    monkeypatch.setattr(FailsToBeRecorded, "recording", staticmethod(lambda: bool(busy)))
    assert way.both(lambda: [METHODS["naive"](), OwnMomentum(), FailsToBeRecorded()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "recording failed: operation not permitted" in lines[0]


def test_a_capture_that_is_not_valid_is_ended_for_the_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """`capture_end` raises before it tells the allocator, which would take the capture for going on."""
    told = []

    class Graph:
        def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
            told.append(("begin", pool))

        def capture_end(self) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    stream = SimpleNamespace(device=torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: stream)
    for name in ("endAllocateTo", "release"):
        tells = lambda device, pool, name=name: told.append((name, pool))  # noqa: E731
        monkeypatch.setattr(torch._C, f"_cuda_{name}Pool", tells, raising=False)
    recording._stream.cache_clear()
    for fails in (lambda: None, lambda: 1 / 0):
        with pytest.raises((RuntimeError, ZeroDivisionError)):
            CudaGraphs(torch.device("cuda", 0)).record(fails)  # type: ignore[arg-type]
        assert told == [(what, (0, 7)) for what in ("begin", "endAllocateTo", "release")]
        told.clear()
    recording._stream.cache_clear()


def test_a_tape_fails_where_a_graph_does() -> None:
    """Python is not run again, what it rebound is lost, numbers are frozen, host reads are refused; and what was
    recorded has not been done yet."""
    x, seen = torch.ones(3), []

    class Holder:
        value = x

    def work() -> None:
        seen.append(1)
        x.mul_(2)
        Holder.value = x + len(seen)

    play = Tape().record(work)
    assert x.tolist() == [1, 1, 1]
    play()
    made = Holder.value
    assert (seen, x.tolist(), made.tolist()) == ([1], [2, 2, 2], [3, 3, 3])
    play()
    assert (seen, x.tolist(), made.tolist()) == ([1], [4, 4, 4], [5, 5, 5])
    for forbidden in (lambda: x.sum().item(), lambda: x[x > 0], lambda: torch.rand(2), lambda: torch.equal(x, x)):
        with pytest.raises(RuntimeError, match="not permitted"):
            Tape().record(forbidden)  # type: ignore[arg-type]
