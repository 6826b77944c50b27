"""One optimizer step of all methods of a stage: done by Python (`EagerStep`), or by Python once and then replayed
(`GraphStep`).

Shapes: S seeds, h heads a seed of one method and H of all, M supervisors (1 for given targets), N examples of the train
split, B of a minibatch, K classes; R = S*h replicas of one method.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmark.base.errors import MethodFailed, W2SError
from benchmark.base.notices import notice
from benchmark.core.adam import Adam, cosine_rates
from benchmark.core.data import Recipe
from benchmark.core.method import Batch, Method, rows_at
from benchmark.core.precision import backward, forward
from benchmark.core.recording import CudaGraphs, Recorder
from benchmark.core.rehearsal import Rehearsal, State, settle
from benchmark.core.student import Student
from benchmark.core.watched import Epoch, Notes, Share

_EXACT = "it asks for progress or epoch as a Python number"
_FLIPS = 3  # recordings an epoch that the questions of one method may cost
_UNSETTLED = 3  # steps in a row that may change a method's plain attributes


class Stage(Protocol):
    """One method in training."""

    @property
    def method(self) -> Method: ...
    @property
    def heads(self) -> int: ...
    def own(self, soft_labels: Tensor) -> Tensor:
        """Its view of (S, M, B, K): (R, B, m, K)."""


@dataclass(frozen=True)
class Given:
    """What losses are computed from: index (S, 1, B) or (S, H, B), logits (S, H, B, K), soft labels (S, M, B, K), or
    (S, H, B, K) of given targets."""

    index: Tensor
    logits: Tensor
    soft_labels: Tensor


class Work:
    """The computation of one step, and the order of its parts.

    Args:
        labels: what is learned, (S, M, N, K), or (S, H, N, K) if `targets`.
    """

    def __init__(
        self, stages: Sequence[Stage], student: Student, labels: Tensor, targets: bool, recipe: Recipe, steps: int
    ) -> None:
        self.stages, self.student, self.recipe = stages, student, recipe
        self.rates = cosine_rates(recipe.learning_rate, steps)
        self.adam = Adam(student.parameters())
        self.device = labels.device
        self.running: Method | None = None  # whose code runs
        self._labels, self._targets = labels, targets
        self._widths = [stage.heads for stage in stages]

    def forward(self, index: Tensor) -> Given:
        with forward(self.recipe.precision, self.device):
            logits = self.student.logits(index).float()
        S, m, N, K = self._labels.shape
        at = index.expand(S, m, -1).flatten(0, 1)
        return Given(index, logits, rows_at(self._labels.view(S * m, N, K), at).unflatten(0, (S, m)))

    def slope(self, stages: Sequence[Stage], given: Given, epoch: int, progress: float) -> Tensor:
        """The gradient (S, H, B, K) of these methods' losses for the logits; replicas never mix, each has its mean."""
        logits = given.logits.detach().requires_grad_()
        losses = []
        for stage, own in zip(self.stages, logits.split(self._widths, dim=1), strict=True):
            if stage in stages:
                S, _, B = given.index.shape
                learned = (
                    given.soft_labels.flatten(0, 1).unsqueeze(2) if self._targets else stage.own(given.soft_labels)
                )
                at = given.index.expand(S, stage.heads, B).flatten(0, 1)
                # (S, h, B, K) -> (R, B, K); where examples are contiguous, they stay so
                logits_own = own.flatten(0, 1) if own.stride(-1) == 1 else own.mT.flatten(0, 1).mT
                with self.named_errors(stage.method):
                    loss = stage.method.loss(logits_own, Batch(learned, at, epoch, progress))
                if loss.shape != at.shape:
                    found, expected = tuple(loss.shape), tuple(at.shape)
                    raise MethodFailed(stage.method.name, f"loss has shape {found}, expected (R, B) = {expected}")
                if not loss.requires_grad:
                    raise MethodFailed(stage.method.name, "loss does not depend on the logits (it has no gradient)")
                losses.append(loss)
        self.running = None
        if losses:
            with backward(self.recipe.precision):
                torch.autograd.backward(losses, [torch.full_like(loss, 1 / loss.shape[1]) for loss in losses])
        return torch.zeros_like(logits) if logits.grad is None else logits.grad

    def update(self, slope: Tensor, rate: float | Tensor) -> None:
        """The optimizer's step."""
        with backward(self.recipe.precision):
            gradients = self.student.gradients(slope)
        self.adam.step(gradients, rate)

    def after(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            with self.named_errors(stage.method):
                stage.method.after_step()

    def named_errors(self, method: Method) -> "NamedErrors":
        self.running = method
        return NamedErrors(method)


def steps_of(work: Work, recorder: Recorder | None) -> "EagerStep | GraphStep":
    """How the steps of this work are done: recorded where that can be, by a CUDA graph on a GPU."""
    if recorder is None and work.device.type == "cuda":
        recorder = CudaGraphs(work.device)
    return GraphStep(work, recorder, notice) if recorder and work.student.recordable else EagerStep(work)


class EagerStep:
    """Every step by Python."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._epoch, self._minibatches = 0, torch.empty(0)

    def running(self) -> AbstractContextManager[Any]:
        """Entered around all epochs."""
        return nullcontext()

    def begin(self, epoch: int, minibatches: Tensor) -> None:
        """An epoch with these minibatches, (steps, S, 1 or H, B) on the CPU."""
        self._epoch, self._minibatches = epoch, minibatches.to(self._work.device, non_blocking=True)

    def run(self, number: int) -> None:
        """The epoch's next step, the `number`th of it (from 0)."""
        work, done = self._work, self._epoch * len(self._minibatches) + number
        work.student.fetch()
        given = work.forward(self._minibatches[number])
        slope = work.slope(work.stages, given, self._epoch, (done + 1) / len(work.rates))
        work.update(slope, work.rates[done])
        work.after(work.stages)


class GraphStep:
    """Steps replayed from a recording, which holds as long as Python would do the same.

    A step is rehearsed first (done by Python, and watched), then recorded. The recording is replayed until a method's
    code would be told something else of the epoch or the progress; then a step is rehearsed again. Methods that can't
    be recorded are `aside`: their losses are computed by Python in every step, from the recording's logits.

    Args:
        say: told once for each method that is put aside, and why.
    """

    def __init__(self, work: Work, recorder: Recorder, say: Callable[[str], None]) -> None:
        self._work, self._recorder, self._say = work, recorder, say
        self._inside, self._aside = list(work.stages), list[Stage]()
        exact = torch.float64 if work.device.type == "cpu" else torch.float32  # what the optimizer's kernel takes there
        self._rates = torch.tensor(work.rates, dtype=exact, device=work.device)
        self._shares = torch.arange(1, len(work.rates) + 1, dtype=torch.float64, device=work.device) / len(work.rates)
        self._done = torch.zeros(1, dtype=torch.int64, device=work.device)  # steps
        self._before = torch.zeros_like(self._done)  # those of epochs before
        self._minibatches = torch.empty(0)
        self._epoch = 0
        self._replay: Callable[[], None] | None = None
        self._notes = Notes(lambda: None)
        self._ready = False  # whether the next step may be recorded
        self._left: tuple[list[Stage], Given, Tensor, Tensor] | None = None  # what a step leaves for methods aside
        self._unsaid: list[str] = []
        self._flips: Counter[Method] = Counter()
        self._unsettled: Counter[Method] = Counter()

    def running(self) -> AbstractContextManager[Any]:
        """As `EagerStep.running`."""
        return self._recorder.running()

    def begin(self, epoch: int, minibatches: Tensor) -> None:
        """As `EagerStep.begin`."""
        self._epoch = epoch
        self._flips.clear()
        if self._minibatches.shape != minibatches.shape:
            self._minibatches = torch.empty_like(minibatches, device=self._work.device)
        self._minibatches.copy_(minibatches, non_blocking=True)
        for steps in (self._done, self._before):
            steps.fill_(epoch * len(minibatches))

    def run(self, number: int) -> None:
        """As `EagerStep.run`."""
        progress = (self._epoch * len(self._minibatches) + number + 1) / len(self._work.rates)
        self._work.student.fetch()
        if flipped := self._notes.changed(self._epoch, progress):
            self._replay, self._ready = None, False
            self._flips.update(flipped)
            self._put_aside({m: _EXACT for m in flipped if self._flips[m] > _FLIPS})
        if self._ready and self._replay is None:
            self._replay = self._recorded(progress)
        if self._replay is not None:
            self._replay()
        elif self._inside:
            self._rehearse(progress)
        else:
            self._step(progress, nullcontext())
        if self._left is not None:
            aside, given, slope, rate = self._left
            own = self._work.slope(aside, given, self._epoch, progress)
            self._work.update(slope + own, rate)
            self._work.after(aside)
        while self._unsaid:  # only now: a method that fails has failed, and is no matter of recordings
            self._say(self._unsaid.pop(0))

    def _step(self, progress: float, watch: AbstractContextManager[Any]) -> None:
        """What is rehearsed and recorded; `watch` is entered for the methods' own code."""
        work, notes = self._work, Notes(lambda: self._work.running)
        done = self._done
        share, rate = (table.index_select(0, done)[0] for table in (self._shares, self._rates))
        given = work.forward(self._minibatches.index_select(0, done - self._before)[0])
        now = Epoch(self._epoch, lambda e, p: e, notes), Share(progress, lambda e, p: p, notes, lambda: share)
        with watch:
            slope = work.slope(self._inside, given, *now)  # type: ignore[arg-type]  # they do what an int and a float do
            work.after(self._inside)
        if not self._aside:
            work.update(slope, rate)
        done += 1
        self._left = (list(self._aside), given, slope, rate) if self._aside else None
        self._notes = notes

    def _rehearse(self, progress: float) -> None:
        """The step by Python; finds who can't be recorded, and whether the next step can."""
        states = {stage.method: State(stage.method) for stage in self._inside}
        seen = Rehearsal(self._work.device, lambda: self._work.running)
        try:
            self._step(progress, seen)
        except MethodFailed as error:  # perhaps of numbers that are watched: once more with plain ones
            seen.undo()
            for state in states.values():
                state.restore()
            assert self._work.running is not None
            self._put_aside({self._work.running: str(error.__cause__ or error)})
            return self._rehearse(progress)
        settled = True
        reasons = {stage.method: seen.reasons[None] for stage in self._inside} if None in seen.reasons else {}
        for method, state in states.items():
            settle(method)
            changed = state.changed()
            self._unsettled[method] = self._unsettled[method] + 1 if changed else 0
            if method in seen.reasons:
                reasons[method] = seen.reasons[method]
            elif hidden := state.hidden():
                reasons[method] = f"it may keep state in {', '.join(hidden)}, which is no tensor or number"
            elif self._unsettled[method] > _UNSETTLED:
                reasons[method] = _changes(changed)
            else:
                settled = settled and not changed
        self._put_aside(reasons)
        self._ready = settled and bool(self._inside)

    def _recorded(self, progress: float) -> Callable[[], None] | None:
        """A recording of the step that is to come, or None when that fails: all methods are aside then."""
        states = {stage.method: State(stage.method) for stage in self._inside}

        def work() -> None:
            self._step(progress, nullcontext())
            rebound = [(m, name, old) for m, state in states.items() for name, old in state.rebound().items()]
            with torch.no_grad():  # what was rebound goes where the next replay will read it
                new = [getattr(method, name).clone() for method, name, _ in rebound]
                for (method, name, old), values in zip(rebound, new, strict=True):
                    old.copy_(values)
                    setattr(method, name, old)

        replay: Callable[[], None] | None = None
        try:
            replay = self._recorder.record(work)
            reasons = {m: _changes(state.changed()) for m, state in states.items() if state.changed()}
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reasons = {method: f"recording failed: {' '.join(str(error).split())}" for method in states}
        if reasons:
            for state in states.values():
                state.restore()
            self._put_aside(reasons)
            return None
        for method in states:
            settle(method)
        return replay

    def _put_aside(self, reasons: Mapping[Method, str]) -> None:
        self._aside += [stage for stage in self._inside if stage.method in reasons]
        self._inside = [stage for stage in self._inside if stage.method not in reasons]
        if reasons:
            self._replay, self._ready = None, False
        self._unsaid += [f"method '{m.name}' is trained without a graph: {why}" for m, why in reasons.items()]


def _changes(names: Sequence[str]) -> str:
    return f"attributes change from step to step: {', '.join(names)}"


class NamedErrors:
    """Turns whatever a method's own code raises into `MethodFailed` (a class: it is entered at every step)."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            return  # not its fault
        if isinstance(error, (Exception, SystemExit)) and not isinstance(error, MethodFailed):
            what = str(error) if isinstance(error, W2SError) else f"{type(error).__name__}: {error}"
            raise MethodFailed(self._method.name, what) from error
