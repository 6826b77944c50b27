"""Steps that Python does once, and a recording from then on: a GPU waits for Python most of the time else."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmark.base.errors import MethodFailed
from benchmark.base.notices import notice
from benchmark.core.guard import Wrote
from benchmark.core.method import Method
from benchmark.core.recording import CudaGraphs, Recorder
from benchmark.core.rehearsal import Rehearsal, State, settle
from benchmark.core.steps import EagerStep, Given, Stage, Work
from benchmark.core.watched import Epoch, Notes, Question, Share

_EXACT = "it asks for progress or epoch as a Python number"
_FLIPS = 3  # recordings an epoch that the questions of one method may cost
_UNSETTLED = 3  # steps in a row that may change a method's plain attributes


def steps_of(work: Work, recorder: Recorder | None) -> "EagerStep | GraphStep":
    """How the steps of this work are done: recorded where that can be, by a CUDA graph on a GPU."""
    if recorder is None and work.device.type == "cuda":
        recorder = CudaGraphs(work.device)
    return GraphStep(work, recorder, say_once) if recorder and work.student.recordable else EagerStep(work)


@cache
def say_once(line: str) -> None:
    """A notice that this process gives once, however many stages and units it is true of."""
    notice(line)


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
        shares = torch.arange(1, len(work.rates) + 1, dtype=torch.float64) / len(work.rates)  # a GPU rounds otherwise
        self._shares = shares.to(work.device)
        self._done = torch.zeros(1, dtype=torch.int64, device=work.device)  # steps
        self._before = torch.zeros_like(self._done)  # those of epochs before
        self._minibatches = torch.empty(0)
        self._epoch = 0
        self._replay: Callable[[], None] | None = None
        self._notes = Notes(lambda: None)
        self._kept: list[tuple[Method, str, Question]] = []  # numbers of a step in a method's attributes
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
        progress = self._progress(number)
        self._work.student.fetch()
        if flipped := self._notes.changed(self._epoch, progress):
            self._replay, self._ready = None, False
            if None in flipped:  # asked in a backward pass
                flipped = {stage.method for stage in self._inside}
            self._flips.update(flipped)
            self._put_aside({m: _EXACT for m in flipped if self._flips[m] > _FLIPS})
        if self._ready and self._replay is None:
            self._replay = self._recorded(progress)
        if self._replay is not None:
            self._replay()
            for method, name, of in self._kept:
                setattr(method, name, of(self._epoch, progress))
        elif self._inside:
            self._rehearse(progress)
        else:
            self._step(progress, nullcontext())
        if self._left is not None:
            aside, given, slope, rate = self._left
            own = self._work.slope(aside, given, self._epoch, progress)
            self._work.update(slope + own, rate)
            self._work.after(aside)
            self._work.guard.compare([stage.method for stage in aside])
        while self._unsaid:  # only now: a method that fails has failed, and is no matter of recordings
            self._say(self._unsaid.pop(0))

    def end(self, inputs: Any) -> None:
        """As `EagerStep.end`; what a method rebinds goes where the recording reads it, or there is a new rehearsal."""
        for stage in self._work.hooked:
            state = State(stage.method)
            self._work.after_epoch(stage, self._epoch, inputs)
            if stage in self._inside and state.movable():
                state.put_back()
            elif stage in self._inside:
                self._replay, self._ready = None, False
                self._kept = [own for own in self._kept if own[0] is not stage.method]

    def _progress(self, number: int) -> float:
        return (self._epoch * len(self._minibatches) + number + 1) / len(self._work.rates)

    def _a_step_before(self, of: Question) -> Question:
        """What the answer was in the step before, also asked of epoch and progress now."""
        total, steps = len(self._work.rates), len(self._minibatches)

        def before(epoch: int, progress: float) -> Any:
            done = round(progress * total) - 1
            return of((done - 1) // steps, done / total)

        return before

    def _step(self, progress: float, watch: AbstractContextManager[Any]) -> None:
        """What is rehearsed and recorded; `watch` is entered for the methods' own code."""
        work, notes = self._work, Notes(lambda: self._work.running)
        done = self._done
        share, rate = (table.index_select(0, done)[0] for table in (self._shares, self._rates))
        given = work.forward(self._minibatches.index_select(0, done - self._before)[0])
        found = [  # numbers of the step before, which may be read before they are set again
            (vars(method), name, Epoch(value, self._a_step_before(of), notes))
            for method, name, of in self._kept
            if isinstance(value := vars(method).get(name), int)
        ]
        for attributes, name, before in found:
            attributes[name] = before
        now = Epoch(self._epoch, lambda e, p: e, notes), Share(progress, lambda e, p: p, notes, lambda: share)
        with watch:
            slope = work.slope(self._inside, given, *now)  # type: ignore[arg-type]  # they do what an int and a float do
            work.after(self._inside)
        for attributes, name, before in found:
            if attributes.get(name) is before:  # it stays as it is
                attributes[name] = before.value
        if not self._aside:
            work.update(slope, rate)
        done += 1
        self._left = (list(self._aside), given, slope, rate) if self._aside else None
        self._notes = notes

    def _rehearse(self, progress: float) -> None:
        """The step by Python; finds who can't be recorded, and whether the next step can."""
        states = {stage.method: State(stage.method) for stage in self._inside}
        seen = Rehearsal(self._work.device, lambda: self._work.running, self._work.guard.lent)
        try:
            self._step(progress, seen)
        except Wrote:
            raise
        except MethodFailed as error:  # perhaps of numbers that are watched: once more with plain ones
            seen.undo()
            for state in states.values():
                state.restore()
            assert self._work.running is not None
            self._put_aside({self._work.running: str(error.__cause__ or error)})
            return self._rehearse(progress)
        settled, kept = True, list[tuple[Method, str, Question]]()
        reasons = {stage.method: seen.reasons[None] for stage in self._inside} if None in seen.reasons else {}
        for method, state in states.items():
            kept += [(method, name, of) for name, of in settle(method).items()]
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
        self._kept = kept
        self._put_aside(reasons)
        self._ready = settled and bool(self._inside)

    def _recorded(self, progress: float) -> Callable[[], None] | None:
        """A recording of the step that is to come, or None when that fails: whose fault it is are aside then."""
        states = {stage.method: State(stage.method) for stage in self._inside}

        def work() -> None:
            self._step(progress, nullcontext())
            for state in states.values():  # what was rebound goes where the next replay will read it
                state.put_back()

        replay: Callable[[], None] | None = None
        try:
            replay = self._recorder.record(work)
            reasons = {m: _changes(state.changed()) for m, state in states.items() if state.changed()}
        except Exception as error:
            # the others of one that fails by itself can be recorded without it
            blamed = [self._work.running] if isinstance(error, MethodFailed) else list(states)
            why = f"recording failed: {' '.join(str(error.__cause__ or error).split())}"
            reasons = {method: why for method in blamed if method is not None}
        if reasons:
            for state in states.values():
                state.restore()
            self._put_aside(reasons)
            return None
        self._kept = [(method, name, of) for method in states for name, of in settle(method).items()]
        return replay

    def _put_aside(self, reasons: Mapping[Method, str]) -> None:
        self._aside += [stage for stage in self._inside if stage.method in reasons]
        self._inside = [stage for stage in self._inside if stage.method not in reasons]
        self._kept = [own for own in self._kept if own[0] not in reasons]
        if reasons:
            self._replay, self._ready = None, False
        self._unsaid += [f"method '{m.name}' is trained without a graph: {why}" for m, why in reasons.items()]


def _changes(names: Sequence[str]) -> str:
    return f"attributes change from step to step: {', '.join(names)}"
