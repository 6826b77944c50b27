"""The training loop. There is one: every method, seed and supervisor of a task is a replica in it.

Shapes: S seeds, M supervisors, N examples of the pool's train split, K classes; a method has h heads a seed (M for
`single`, 1 for `ensemble`) and R = S*h replicas; B examples of a minibatch.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmark.base.errors import MethodFailed
from benchmark.base.seeding import derive
from benchmark.base.torch_seeding import torch_rng
from benchmark.core.data import Recipe
from benchmark.core.guard import Guard, NamedErrors
from benchmark.core.method import Method, Supervision
from benchmark.core.minibatches import Minibatches, one_ahead
from benchmark.core.names import Use
from benchmark.core.recording import Recorder
from benchmark.core.replay import steps_of
from benchmark.core.resume import Progress, part_names
from benchmark.core.steps import EagerStep, Work
from benchmark.core.student import Fitted, Student
from benchmark.store.checkpoints import Checkpoints


@dataclass(frozen=True)
class TrainingData:
    """What may be learned from; nothing here holds the truth or a test input.

    Features are output -> what the student reads, from the weakest to its own; for linear heads (S, N, D) or
    (S, N, 2, D), standardised, or a `benchmark.students.streamed.Streamed` of that shape.
    """

    features: dict[str, Any]
    soft_labels: Tensor  # (S, M, N, K), contiguous
    seeds: tuple[int, ...]
    student: Callable[[Any, int, tuple[int, ...], int], Student]  # (features, K, seeds, heads) -> fresh heads
    margin_beta: float | None = None  # see `benchmark.core.abilities.Policy`
    source_scores: Tensor | None = None  # (S, M), see `benchmark.core.source_scores`

    @property
    def own(self) -> str:
        return list(self.features)[-1]


@dataclass(frozen=True)
class Trained:
    """A method's result: `student` holds heads (S, h, ...), `diagnostics` tensors with leading dimension R."""

    method: Method
    student: Fitted
    diagnostics: dict[str, Tensor]
    steps: int  # optimizer steps, all stages together
    uses: tuple[Use, ...] = ()  # what the method was given beside soft labels, of what it asks for


OnStep = Callable[[float], None]  # told now and then how much of the epoch is done; 1.0 at its end
NOWHERE = Checkpoints(None)


def train(
    methods: Sequence[Method],
    data: TrainingData,
    recipe: Recipe,
    on_step: OnStep = lambda share: None,
    checkpoints: Checkpoints = NOWHERE,
    recorder: Recorder | None = None,
    closely: bool = False,
) -> list[Trained]:
    """Train every method for every seed (and supervisor), on the device of the data; one result for each, in order.

    Methods are fresh instances; several of one class, with other options, are just more replicas. Those of one stage
    share one run of the loop. Checkpoints keep the state after each epoch, and training goes on from there. Steps are
    recorded and replayed by `recorder`, on a GPU as CUDA graphs if none is given (`benchmark.core.replay`).

    Raises:
        MethodFailed: a method raised, its loss has another shape than (R, B), it needs more supervisors, or it wrote
            into what it was given (`benchmark.core.guard`).
        SomeoneWrote: one of several did; `closely` tells which.
    """
    features = data.features[data.own] if any("features" in method.uses for method in methods) else None
    guard = Guard(data.soft_labels, closely, features if isinstance(features, Tensor) else None)
    names = part_names(methods)
    parts = [checkpoints.part(name) for name in names]
    stages = [_Stage(m, data, recipe, on_step, own, recorder, guard) for m, own in zip(methods, parts, strict=True)]
    for stage in stages:
        with NamedErrors(stage.method):
            stage.method.start(stage.supervision)
        guard.check(stage.method)
    guard.compare(methods, whole=True)
    together = [stage for stage in stages if type(stage.method).fit is Method.fit]
    if together:
        _fit(together, recipe, data.own, checkpoints.part("together"))
    for stage in stages:
        if stage not in together:
            with NamedErrors(stage.method):
                stage.method.fit(stage)
            guard.compare([stage.method], whole=True)
    return [stage.result() for stage in stages]


class _Stage:
    """One method in training; the `Trainer` that methods of several stages are given."""

    def __init__(
        self,
        method: Method,
        data: TrainingData,
        recipe: Recipe,
        on_step: OnStep,
        checkpoints: Checkpoints,
        recorder: Recorder | None,
        guard: Guard,
    ) -> None:
        _, M, N, K = data.soft_labels.shape
        if method.min_supervisors > M:
            raise MethodFailed(method.name, f"needs at least {method.min_supervisors} supervisors, found {M}")
        features = guard.features if "features" in method.uses else None
        scores = data.source_scores if "source_scores" in method.uses else None
        self.method, self.data, self.recipe, self.on_step = method, data, recipe, on_step
        self.checkpoints, self.recorder, self.guard = checkpoints, recorder, guard
        self.single = method.kind == "single"
        self.heads = M if self.single else 1
        stream, epochs = Minibatches(data.seeds, N, recipe.batch_size), recipe.epochs_of(N)
        self.supervision = Supervision(
            soft_labels=self.own(guard.soft_labels),
            num_classes=K,
            epochs=epochs,
            steps_per_epoch=stream.steps_per_epoch,
            total_steps=stream.steps_per_epoch * epochs,
            generators=tuple(torch_rng(method.name, s) for s in data.seeds for _ in range(self.heads)),
            device=data.soft_labels.device,
            encoders=tuple(data.features),
            margin_beta=data.margin_beta,
            features=features,
            source_scores=None if scores is None else scores.reshape(-1, M // self.heads).clone(),
        )
        self.student: Fitted | None = None
        self.weights: Sequence[Tensor] = ()  # of the last stage's student
        self.stage, self.encoder, self.steps = 0, "", 0

    def own(self, soft_labels: Tensor) -> Tensor:
        """The method's view of (S, M, n, K): (S*M, n, 1, K) for `single`, (S, n, M, K) for `ensemble`."""
        return soft_labels.flatten(0, 1).unsqueeze(2) if self.single else soft_labels.transpose(1, 2)

    def fit(
        self,
        targets: Tensor | None = None,
        keep: Tensor | None = None,
        encoder: str | None = None,
        warm_start: bool = False,
        variant: int = 0,
        average: float = 0.0,
        learning_rate_times: float = 1.0,
    ) -> None:
        encoder = self.data.own if encoder is None else encoder
        if encoder not in self.data.features:
            raise MethodFailed(self.method.name, f"no encoder '{encoder}', expected one of {list(self.data.features)}")
        if variant < 0 or not 0 <= average < 1 or not learning_rate_times > 0:
            found = f"fit(variant={variant}, average={average}, learning_rate_times={learning_rate_times})"
            raise MethodFailed(self.method.name, f"{found}: expected a variant from 0, [0, 1), and above 0")
        if warm_start and self.encoder != encoder:
            before = f"the stage before had '{self.encoder}'" if self.encoder else "there is no stage before"
            raise MethodFailed(self.method.name, f"fit(warm_start=True) of encoder '{encoder}': {before}")
        R, N, _, K = self.supervision.soft_labels.shape
        for what, given, shape in (("targets", targets, (R, N, K)), ("keep", keep, (R, N))):
            if given is not None and given.shape != shape:
                raise MethodFailed(self.method.name, f"{what} has shape {tuple(given.shape)}, expected {shape}")
        self.stage += 1
        own, start = self.checkpoints.part(str(self.stage)), self.weights if warm_start else ()
        recipe = self.recipe.times(learning_rate_times)
        _fit([self], recipe, encoder, own, targets, keep, start, variant, average)

    def predict(self) -> Tensor:
        if self.student is None:
            raise MethodFailed(self.method.name, "predict() before the first fit()")
        return self.student.predict(self.data.features[self.encoder]).flatten(0, 1)

    def result(self) -> Trained:
        if self.student is None or self.encoder != self.data.own:
            raise MethodFailed(self.method.name, "its last stage must train the student's own encoder")
        with NamedErrors(self.method):
            diagnostics = {name: value.detach().cpu() for name, value in self.method.diagnostics().items()}
        self.guard.compare([self.method], whole=True)
        R = len(self.supervision.soft_labels)
        for name, value in diagnostics.items():
            if value.shape[:1] != (R,) or not value.isfinite().all():
                found = f"shape {tuple(value.shape)}" if value.shape[:1] != (R,) else "NaN or infinity"
                raise MethodFailed(self.method.name, f"diagnostics['{name}']: {found}, expected {R} replicas' numbers")
        given = tuple(name for name in self.method.uses if getattr(self.supervision, name) is not None)
        return Trained(self.method, self.student, diagnostics, self.steps, given)


def _fit(
    stages: Sequence[_Stage],
    recipe: Recipe,
    encoder: str,
    checkpoints: Checkpoints,
    targets: Tensor | None = None,
    keep: Tensor | None = None,
    start: Sequence[Tensor] = (),
    variant: int = 0,
    average: float = 0.0,
) -> None:
    """Train one stage of the given methods together, from the initial weights, or those to `start` from if any are
    given, or from where a killed run stopped."""
    data, on_step = stages[0].data, stages[0].on_step
    S, _, N, K = data.soft_labels.shape
    widths = [stage.heads for stage in stages]
    inputs = data.features[encoder]
    seeds = tuple(derive("variant", variant, seed) for seed in data.seeds) if variant else data.seeds
    student = data.student(inputs, K, seeds, sum(widths))
    for parameter, value in zip(student.parameters(), start, strict=False):
        parameter.detach().copy_(value)
    stream = Minibatches(seeds, N, recipe.batch_size, None if keep is None else keep.unflatten(0, (S, -1)))
    labels = data.soft_labels if targets is None else targets.unflatten(0, (S, -1)).contiguous()
    epochs = recipe.epochs_of(N)
    total_steps = stream.steps_per_epoch * epochs
    work = Work(stages, student, labels, targets is not None, recipe, total_steps, stages[0].guard, average)
    progress = Progress(student, work.adam, [stage.method for stage in stages], checkpoints)
    done, told = progress.restore(), time.monotonic()

    def announced(epoch: int) -> Tensor:
        minibatches = stream.epoch(epoch)
        if epoch >= done:
            student.expect(minibatches)
        return minibatches

    step = EagerStep(work) if work.guard.closely else steps_of(work, stages[0].recorder)
    with closing(student), step.running():
        for epoch, minibatches in enumerate(one_ahead(map(announced, range(epochs)))):
            if epoch >= done:
                step.begin(epoch, minibatches)
                for number in range(len(minibatches)):
                    step.run(number)
                    if time.monotonic() - told > 1 and number + 1 < len(minibatches):  # its end is told below
                        told = time.monotonic()
                        on_step((number + 1) / len(minibatches))
                step.end(inputs)
                progress.save(epoch + 1)
            on_step(1.0)
    work.guard.compare([stage.method for stage in stages], whole=True)
    work.adam.swap_averages()
    work.adam.averages.clear()
    for stage, heads in zip(stages, student.split(widths), strict=True):
        stage.student, stage.encoder, stage.weights = heads, encoder, work.adam.parameters
        stage.steps += total_steps
