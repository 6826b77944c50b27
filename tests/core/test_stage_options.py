"""What a method may ask of a stage (`Trainer.fit`) and between epochs (`Method.after_epoch`), against plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmark.base.errors import MethodFailed
from benchmark.base.seeding import derive
from benchmark.core.adam import Adam
from benchmark.core.data import Recipe
from benchmark.core.guard import Wrote
from benchmark.core.losses import cross_entropy, rows_at
from benchmark.core.method import Batch, Method, Supervision, Trainer
from benchmark.core.recording import Tape
from benchmark.core.registry import METHODS
from benchmark.core.training import Trained, TrainingData, train
from benchmark.store.checkpoints import Checkpoints
from benchmark.students.linear import Heads, initial_head
from benchmark.students.streamed import Streamed
from support.rounding import assert_close, assert_trained_alike
from support.tiny import Models, opinions, soft_labels
from support.trained import SEEDS, Ensemble, make_data

RECIPE = Recipe(learning_rate=3e-3, epochs=3, batch_size=16)
DATA = make_data()
STEPS = 15  # of a stage
Stages = Callable[[Trainer], None]


class Mean(Method):
    """Cross-entropy on the mean, in stages as given."""

    name = "mean"
    title = citation = "test"
    kind = "ensemble"

    def __init__(self, stages: Stages = lambda trainer: trainer.fit()) -> None:
        self._stages = stages
        self.predicted: list[Tensor] = []

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels.mean(2))

    def fit(self, trainer: Trainer) -> None:
        self._stages(trainer)
        self.predicted.append(trainer.predict())


def trained(stages: Stages, data: TrainingData = DATA, recipe: Recipe = RECIPE, **more: Any) -> tuple[Heads, Tensor]:
    """The last stage's heads, and what they predict on the train split."""
    method = Mean(stages)
    (found,) = train([method], data, recipe, **more)
    assert isinstance(found.student, Heads)
    return found.student, method.predicted[0]


class Plain:
    """One head of one seed in the ordinary way: `nn.Linear`, `torch.optim.Adam`, its schedule, given minibatches."""

    def __init__(self, s: int) -> None:
        self.x, self.p = DATA.features["full"][s], DATA.soft_labels[s].mean(0)
        self.head = nn.Linear(6, 4)
        weight, bias = initial_head(SEEDS[s], 4, 6)
        self.head.weight.data.copy_(weight)
        self.head.bias.data.copy_(bias)
        self.mean = [p.detach().double().numpy() for p in self.head.parameters()]

    def stage(self, minibatches: list[Tensor], average: float = 0.0) -> None:
        optimizer = torch.optim.Adam(self.head.parameters(), lr=RECIPE.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(minibatches))
        for index in minibatches:
            optimizer.zero_grad()
            cross_entropy(self.head(self.x[index]), self.p[index]).mean().backward()
            optimizer.step()
            schedule.step()
            now = [p.detach().double().numpy() for p in self.head.parameters()]
            self.mean = [average * v + (1 - average) * w for v, w in zip(self.mean, now, strict=True)]


class Seen(Mean):
    """It notes the minibatches of each step."""

    def __init__(self, stages: Stages = lambda trainer: trainer.fit()) -> None:
        super().__init__(stages)
        self.indices: list[Tensor] = []

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        self.indices.append(batch.index.clone())
        return super().loss(logits, batch)


def assert_alike(heads: Heads, s: int, expected: list[Any], steps: int) -> None:
    assert heads.bias is not None
    found, start = [heads.weight[s, 0], heads.bias[s, 0]], list(initial_head(SEEDS[s], 4, 6))
    assert_trained_alike(found, [torch.as_tensor(e, dtype=torch.float32) for e in expected], start, steps * 32)


def test_warm_stages_are_one_plain_loop_with_a_fresh_optimizer_for_each() -> None:
    def stages(trainer: Trainer) -> None:
        trainer.fit()
        trainer.fit(warm_start=True)
        trainer.fit(warm_start=True, variant=2)

    method = Seen(stages)
    (found,) = train([method], DATA, RECIPE)
    assert found.steps == 3 * STEPS == len(method.indices)
    for s in range(len(SEEDS)):
        plain, orders = Plain(s), [index[s] for index in method.indices]
        assert torch.equal(torch.stack(orders[:STEPS]), torch.stack(orders[STEPS : 2 * STEPS]))
        assert not torch.equal(torch.stack(orders[:STEPS]), torch.stack(orders[2 * STEPS :]))
        for number in range(3):
            plain.stage(orders[number * STEPS : (number + 1) * STEPS])
        assert_alike(found.student, s, [p.detach() for p in plain.head.parameters()], 3 * STEPS)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_an_average_is_that_of_a_plain_loop_and_the_student_that_all_see(decay: float) -> None:
    method = Seen(lambda trainer: trainer.fit(average=decay))
    (found,) = train([method], DATA, RECIPE)
    for s in range(len(SEEDS)):
        plain = Plain(s)
        plain.stage([index[s] for index in method.indices], decay)
        assert_alike(found.student, s, plain.mean, STEPS)  # type: ignore[arg-type]
    x = DATA.features["full"]
    assert torch.equal(method.predicted[0], found.student.predict(x).flatten(0, 1))
    raw, _ = trained(lambda trainer: trainer.fit())
    assert (raw.weight - found.student.weight).abs().max() > 1e-4  # type: ignore[attr-defined]


def test_the_next_stage_goes_on_from_the_average() -> None:
    """With a learning rate of nearly nothing it stays where it began."""

    def stages(trainer: Trainer) -> None:
        trainer.fit(average=0.9)
        method.predicted.append(trainer.predict())
        trainer.fit(warm_start=True, learning_rate_times=1e-9)

    method = Mean(stages)
    train([method], DATA, RECIPE)
    assert torch.equal(*method.predicted)


@given(st.floats(0.01, 0.999), st.integers(1, 20))
def test_adams_average_is_the_weighted_mean_of_all_that_it_has_been(decay: float, steps: int) -> None:
    rng = torch.Generator().manual_seed(steps)
    adam = Adam([torch.randn(3, 2, generator=rng), torch.randn(4, generator=rng)], decay)
    been = [[p.clone().double() for p in adam.parameters]]
    for _ in range(steps):
        adam.step([torch.randn(p.shape, generator=rng) for p in adam.parameters], 0.1)
        been.append([p.clone().double() for p in adam.parameters])
    shares = [decay**steps, *((1 - decay) * decay ** (steps - t) for t in range(1, steps + 1))]
    for i, found in enumerate(adam.averages):
        expected = sum(share * own[i] for share, own in zip(shares, been, strict=True))
        scale = max(own[i].abs().max() for own in been)
        assert_close(found, torch.as_tensor(expected).float(), 4 * steps + 4, scale=scale)
    before = [[t.clone() for t in own] for own in (adam.parameters, adam.averages)]
    adam.swap_averages()
    assert all(torch.equal(a, b) for a, b in zip(before[0] + before[1], adam.averages + adam.parameters, strict=True))


def test_variants_differ_and_depend_on_the_seed_only() -> None:
    first, second, again = (
        trained(lambda trainer, v=v: trainer.fit(variant=v))[0]
        for v in (0, 1, 1)  # type: ignore[misc]
    )
    assert torch.equal(second.weight, again.weight)
    assert (first.weight - second.weight).abs().max() > 0.01
    one = replace(DATA, features={n: x[1:] for n, x in DATA.features.items()}, soft_labels=DATA.soft_labels[1:].clone())
    alone, _ = trained(lambda trainer: trainer.fit(variant=1), replace(one, seeds=SEEDS[1:]))
    assert_close(alone.weight[0], second.weight[1], STEPS * 32, scale=1.0)
    default, _ = trained(lambda trainer: trainer.fit())
    assert torch.equal(default.weight, first.weight)
    start, _ = trained(lambda trainer: trainer.fit(variant=1), recipe=replace(RECIPE, learning_rate=1e-12))
    for s, seed in enumerate(SEEDS):
        assert_close(start.weight[s, 0], initial_head(derive("variant", 1, seed), 4, 6)[0], 2)


def test_a_stages_learning_rate_is_a_multiple_of_the_recipes() -> None:
    found, _ = trained(lambda trainer: trainer.fit(learning_rate_times=0.3))
    expected, _ = trained(lambda trainer: trainer.fit(), recipe=RECIPE.times(0.3))
    assert torch.equal(found.weight, expected.weight)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (lambda t: t.fit(warm_start=True), "fit(warm_start=True) of encoder 'full': there is no stage before"),
        (
            lambda t: (t.fit(encoder="weak"), t.fit(warm_start=True)),
            "fit(warm_start=True) of encoder 'full': the stage before had 'weak'",
        ),
        (
            lambda t: t.fit(variant=-1),
            "fit(variant=-1, average=0.0, learning_rate_times=1.0): expected a variant from 0, [0, 1), and above 0",
        ),
        (
            lambda t: t.fit(average=1.0),
            "fit(variant=0, average=1.0, learning_rate_times=1.0): expected a variant from 0, [0, 1), and above 0",
        ),
        (
            lambda t: t.fit(learning_rate_times=0),
            "fit(variant=0, average=0.0, learning_rate_times=0): expected a variant from 0, [0, 1), and above 0",
        ),
    ],
)
def test_what_a_stage_cannot_do_is_said(stages: Stages, message: str) -> None:
    with pytest.raises(MethodFailed) as error:
        trained(stages)
    assert str(error.value) == f"method 'mean': {message}"


class Refreshed(Method):
    """Self-distillation: targets t <- 0.6 t + 0.4 q after each epoch, for the mean's cross-entropy; how is a way to put
    them where the loss reads them."""

    name = "refreshed"
    title = citation = "test"
    kind = "ensemble"

    def __init__(self, how: str = "rebinds", average: float = 0.0) -> None:
        self.how, self.decay = how, average

    def start(self, supervision: Supervision) -> None:
        self.targets = supervision.soft_labels.mean(2)
        self.spare = self.targets.clone()
        self.share = 0.0

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, rows_at(self.targets, batch.index)) * (1 + self.share)

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        new = 0.6 * self.targets[:, : self.spare.shape[1]] + 0.4 * predict()
        if self.how == "in place":
            self.targets.copy_(new)
        elif self.how == "shared":
            self.targets = self.spare = new
        elif self.how == "shape":
            self.targets = torch.cat([new, new], 1) if epoch == 1 else new
        elif self.how == "strides":
            self.targets = new.mT.contiguous().mT
        elif self.how == "expanded":
            self.targets = new.mean(1, keepdim=True).expand_as(self.spare)
        else:
            self.targets = new
        if self.how == "number":
            self.share = 0.1 * epoch

    def fit(self, trainer: Trainer) -> None:
        trainer.fit(average=self.decay)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"targets": self.targets.mean((1, 2)), "first": self.targets[:, 0, 0]}


class Together(Refreshed):
    """It shares a run of the loop with other methods."""

    name = "together"
    fit = Method.fit


class SingleRefreshed(Together):
    name = "single_refreshed"
    kind = "single"


def same(a: list[Trained], b: list[Trained]) -> bool:
    pairs = [(x.student.weight, y.student.weight) for x, y in zip(a, b, strict=True)]  # type: ignore[attr-defined]
    pairs += [(x.diagnostics[n], y.diagnostics[n]) for x, y in zip(a, b, strict=True) for n in x.diagnostics]
    return all(torch.equal(x, y) for x, y in pairs)


HOW = {"rebinds": 1, "in place": 1, "number": 3, "shared": 3, "shape": 4, "strides": 2, "expanded": 4}


class Counting(Tape):
    count = 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.count += 1
        return super().record(work)


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("how", HOW)
def test_recorded_steps_see_what_is_rebound_between_epochs(
    how: str, average: float, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, tape = replace(RECIPE, epochs=5), Counting()
    plain = train([Refreshed(how, average)], DATA, recipe)
    assert same(plain, train([Refreshed(how, average)], DATA, recipe, recorder=tape))
    assert 1 <= tape.count <= HOW[how] + 2
    if how in ("rebinds", "in place"):
        assert tape.count == 1
    assert capsys.readouterr().err == ""


class Watching(Method):
    """It keeps what the students predict at the end of each epoch."""

    name = "watching"
    title = citation = "test"
    kind = "single"

    def start(self, supervision: Supervision) -> None:
        self.first = self.last = torch.zeros_like(supervision.soft_labels[:, :, 0])
        self.epochs = 0

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels[:, :, 0])

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        assert epoch == self.epochs
        self.epochs += 1
        self.last = predict()
        assert not self.last.requires_grad
        assert not self.last.is_inference()
        if epoch == 0:
            self.first = self.last


@pytest.mark.parametrize(("streamed", "recorded"), [(False, False), (False, True), (True, False)])
def test_methods_of_one_run_are_told_what_their_own_students_predict(streamed: bool, recorded: bool) -> None:
    """At the end of the last epoch that is what the trained students predict; and others train as without them."""
    here = {n: Streamed(list(x.numpy())) if streamed else x for n, x in DATA.features.items()}
    data, watching = replace(DATA, features=here), Watching()
    methods = [Ensemble(), watching, Together()]
    before, found, _ = train(methods, data, RECIPE, recorder=Tape() if recorded else None)
    assert watching.epochs == RECIPE.epochs
    assert torch.equal(watching.last, found.student.predict(data.features["full"]).flatten(0, 1))
    assert (watching.last - watching.first).abs().max() > 1e-3
    (alone,) = train([Ensemble()], data, RECIPE)
    assert_close(before.student.weight, alone.student.weight, STEPS * 32, scale=1.0)  # type: ignore[attr-defined]


def test_with_an_average_it_is_the_average_that_predicts_and_training_does_not_notice() -> None:
    class Averaged(Watching):
        def fit(self, trainer: Trainer) -> None:
            trainer.fit(average=0.9)
            assert torch.equal(self.last, trainer.predict())

    class Unaware(Averaged):
        after_epoch = Method.after_epoch

        def fit(self, trainer: Trainer) -> None:
            trainer.fit(average=0.9)

    (a,), (b,) = train([Averaged()], DATA, RECIPE), train([Unaware()], DATA, RECIPE)
    assert torch.equal(a.student.weight, b.student.weight)  # type: ignore[attr-defined]


def test_predict_that_is_kept_until_the_end_gives_the_last_student() -> None:
    class Keeps(Watching):
        def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
            self.predict = predict

        def fit(self, trainer: Trainer) -> None:
            trainer.fit(average=0.9)
            assert torch.equal(self.predict(), trainer.predict())

    train([Keeps()], DATA, RECIPE)


def test_its_errors_are_named_and_its_writes_are_found() -> None:
    class Fails(Watching):
        def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
            raise ValueError("boom")

    class Writes(Watching):
        def start(self, supervision: Supervision) -> None:
            super().start(supervision)
            self.given = supervision.soft_labels

        def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
            self.given.mul_(0)

    with pytest.raises(MethodFailed, match=r"^method 'watching': ValueError: boom$"):
        train([Ensemble(), Fails()], DATA, RECIPE)
    for recorder in (None, Tape()):
        with pytest.raises(Wrote, match=r"^method 'watching': writes into supervision\.soft_labels"):
            train([Ensemble(), Writes(), METHODS["naive"]()], DATA, RECIPE, recorder=recorder)


class Killed(BaseException):
    """As a signal: nothing catches it."""


def check_resumable(make: Callable[[], list[Method]], data: TrainingData, folder: Path, recipe: Recipe) -> None:
    """Kill the training after each of its epochs in turn, going on each time: bit for bit the uninterrupted one."""
    expected, kills = train(make(), data, recipe), 0

    def on_step(share: float) -> None:
        nonlocal ended
        ended += share == 1
        if ended == kills + 1:
            raise Killed

    while True:
        ended = 0
        try:
            found = train(make(), data, recipe, on_step, Checkpoints.of(folder, {"task": "made up"}))
            break
        except Killed:
            kills += 1
    assert kills >= recipe.epochs
    for a, b in zip(expected, found, strict=True):
        values = [[own.student.weight] if isinstance(own.student, Heads) else own.student.weights for own in (a, b)]  # type: ignore[attr-defined]
        values = [v + list(own.diagnostics.values()) for v, own in zip(values, (a, b), strict=True)]
        assert all(torch.equal(x, y) for x, y in zip(*values, strict=True))


class InStages(Refreshed):
    """All that a stage offers, with state that `after_epoch` keeps."""

    name = "in_stages"

    def fit(self, trainer: Trainer) -> None:
        trainer.fit(average=0.9)
        trainer.fit(warm_start=True, average=0.8, variant=1)
        trainer.fit(warm_start=True)


def test_killed_training_goes_on_with_average_variant_and_what_after_epoch_keeps(tmp_path: Path) -> None:
    check_resumable(lambda: [Together(), InStages(), SingleRefreshed()], DATA, tmp_path, RECIPE)


def test_a_language_model_has_all_of_it_and_goes_on_bit_for_bit(models: Models, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from benchmark.students.language.student import LanguageModel

    kind = LanguageModel("classifier", 2, models["bert"], 1, rank=2, max_tokens=20)
    texts, labels = opinions(9, 0)
    p = torch.from_numpy(soft_labels(labels, 2, np.random.default_rng(0)))[None]
    data = TrainingData({"tokens": [kind.sequences(texts)]}, p, (4,), kind.start)
    recipe = Recipe(learning_rate=1e-2, epochs=2, batch_size=4)
    check_resumable(lambda: [Together(), InStages()], data, tmp_path, recipe)

    class Checked(Watching):
        def fit(self, trainer: Trainer) -> None:
            trainer.fit(average=0.5)
            first = trainer.predict()
            assert torch.equal(self.last, first)
            self.epochs = 0
            trainer.fit(variant=1)
            assert torch.equal(self.last, trainer.predict())
            assert (self.last - first).abs().max() > 1e-4

    train([Watching(), Together()], data, recipe)
    train([Checked()], data, recipe)
