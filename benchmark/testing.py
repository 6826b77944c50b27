"""The contract suite for methods: `check_method(MyMethod)` runs what every method of this benchmark has to pass.

Shapes: S seeds, M supervisors, N examples, K classes, R replicas of the method (see `benchmark.core.method`).
"""

import dataclasses
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from benchmark.base.errors import MethodFailed, W2SError
from benchmark.base.torch_seeding import torch_rng
from benchmark.core import registry
from benchmark.core.data import Recipe
from benchmark.core.method import Batch, Method, Supervision
from benchmark.core.names import RESERVED, TIMES, Family, Use
from benchmark.core.recording import Recorder, Tape
from benchmark.core.resume import unresumable
from benchmark.core.training import Trained, TrainingData, train
from benchmark.students.linear import Heads, LinearStudent

RECIPE = Recipe(learning_rate=1e-2, epochs=3, batch_size=8)  # three epochs: one is RAVEN's easy phase


def make_data(
    seeds: Sequence[int] = (1, 2),
    supervisors: int = 3,
    classes: int = 3,
    labels: Literal["soft", "one-hot", "uniform"] = "soft",
    pairs: bool = False,
    examples: int = 24,
) -> TrainingData:
    """Random features (a small encoder's and the student's own), soft labels and source scores; a seed's data depend on
    it only."""
    shape = (examples, 2) if pairs else (examples,)
    features, soft_labels = [], []
    for seed in seeds:
        rng = torch_rng("contract suite", seed)
        features.append(torch.randn(*shape, 5, generator=rng))
        common = 3 * torch.randn(examples, classes, generator=rng)
        # one draw after another, so that dropping the last supervisors leaves the others' labels as they are
        own = [common + 2 * torch.randn(examples, classes, generator=rng) for _ in range(supervisors)]
        soft_labels.append(torch.stack(own).softmax(-1))
    p = torch.stack(soft_labels)
    if labels == "one-hot":
        p = torch.nn.functional.one_hot(p.argmax(-1), classes).to(p.dtype)
    elif labels == "uniform":
        p = torch.full_like(p, 1 / classes)
    x = torch.stack(features)
    scores = [0.4 + 0.5 * torch.rand(supervisors, generator=torch_rng("source scores", seed)) for seed in seeds]
    x_by_output = {"small": x[..., :3].contiguous(), "own": x}
    return TrainingData(x_by_output, p, tuple(seeds), LinearStudent, source_scores=torch.stack(scores))


def make_supervision(soft_labels: Tensor, epochs: int = 5, steps_per_epoch: int = 4) -> Supervision:
    """What `Method.start` is given, for unit tests of a single method; soft_labels (R, N, M, K)."""
    return Supervision(
        soft_labels=soft_labels,
        num_classes=soft_labels.shape[-1],
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        total_steps=epochs * steps_per_epoch,
        generators=tuple(torch_rng("unit test", replica) for replica in range(len(soft_labels))),
        device=soft_labels.device,
        encoders=("own",),
    )


def check_method(cls: type[Method]) -> None:
    """Run all of `CHECKS` on a method.

    Raises:
        AssertionError: the method breaks the contract; the message says where and how.
    """
    for check in CHECKS:
        check(cls)


def check_declaration(cls: type[Method]) -> None:
    """The class is a dataclass whose options all have defaults; it declares what the tables print."""
    doc = (cls.__doc__ or "").strip()
    written = bool(doc) and not doc.startswith(f"{cls.__name__}(")  # @dataclass makes one up
    _expect("__dataclass_fields__" in vars(cls), cls, "decorate the class with @dataclass(eq=False)")
    _expect(cls.name.isidentifier() and cls.name.islower(), cls, "name must be snake_case")
    _expect(cls.name not in RESERVED, cls, "this name is reserved")
    _expect(isinstance(cls.version, int) and cls.version >= 1, cls, "version must be an integer from 1")
    _expect(cls.kind in ("single", "ensemble"), cls, f"kind must be 'single' or 'ensemble', is {cls.kind!r}")
    families = get_args(Family)
    _expect(cls.family in (None, *families), cls, f"family must be one of {families}, is {cls.family!r}")
    _expect(bool(cls.title.strip() and cls.citation.strip()), cls, "title and citation must not be empty")
    _expect(cls.min_supervisors >= 1, cls, "min_supervisors must be at least 1")
    _expect(cls.kind == "ensemble" or cls.min_supervisors == 1, cls, "a `single` method sees one supervisor")
    _expect(written, cls, "the class needs a docstring with the formula and its source")
    _expect(set(cls.uses) <= set(get_args(Use)), cls, f"uses may name {', '.join(get_args(Use))}, is {cls.uses!r}")
    try:
        cls()
    except TypeError as error:
        raise AssertionError(f"method '{cls.name}': every option needs a default: {error}") from error


def check_options(cls: type[Method]) -> None:
    """Options go into the record as JSON, and training does not change them."""
    method, fresh = cls(), cls()
    try:
        before = json.dumps(dataclasses.asdict(fresh), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"method '{cls.name}': options must be JSON-serialisable: {error}") from error
    _train(method, _data(cls))
    after = json.dumps(dataclasses.asdict(method), allow_nan=False)
    _expect(after == before, cls, f"options changed from {before} to {after}; keep state out of the fields")


def check_grid(cls: type[Method]) -> None:
    """The grid is one (`registry.check_grid`), and each of its settings trains."""
    try:
        registry.check_grid(cls, "grid")
    except W2SError as error:
        raise AssertionError(f"method '{cls.name}': {error}") from error
    for setting in cls.grid[1:]:
        options = {name: value for name, value in setting.items() if name not in TIMES}
        recipe = RECIPE.times(*(setting.get(name, 1) for name in TIMES))
        for classes in (2, 3):
            try:
                _train(cls(**options), make_data(supervisors=max(3, cls.min_supervisors), classes=classes), recipe)
            except AssertionError as error:
                raise AssertionError(f"{error} (setting {dict(setting)} of its grid)") from error


def check_losses(cls: type[Method]) -> None:
    """A loss is (R, B), finite, differentiable, leaves its arguments alone, and no replica's depends on another."""
    method = cls()
    original = method.loss
    faults: list[str] = []  # an exception raised in here would be blamed on the method as a crash

    def checked(logits: Tensor, batch: Batch) -> Tensor:
        given = {"logits": logits, "batch.soft_labels": batch.soft_labels, "batch.index": batch.index}
        before = {name: tensor.detach().clone() for name, tensor in given.items()}
        loss = original(logits, batch)
        faults.extend(f"loss writes to {name}" for name in given if not torch.equal(given[name], before[name]))
        faults.extend(_faults(loss, logits))
        return loss

    method.loss = checked  # type: ignore[method-assign]
    try:
        _train(method, _data(cls))
    except Exception:
        if not faults:  # else they are the reason
            raise
    _expect(not faults, cls, "; ".join(dict.fromkeys(faults)))


def check_shapes(cls: type[Method]) -> None:
    """Trains with 1 to 5 supervisors (from `min_supervisors`), 2 and 10 classes, and on preference pairs."""
    plans = [(M, K, False) for M, K in product(_supervisors(cls), (2, 10))]
    for M, K, pairs in [*plans, (max(3, cls.min_supervisors), 2, True)]:
        _train(cls(), make_data(supervisors=M, classes=K, pairs=pairs))  # the engine checks what comes of it


def check_extreme_labels(cls: type[Method]) -> None:
    """Nothing becomes NaN or infinite on one-hot and on uniform soft labels."""
    for M, K in product(_supervisors(cls), (2, 10)):
        _train(cls(), make_data(seeds=(1,), supervisors=M, classes=K, labels="one-hot"))
        _train(cls(), make_data(seeds=(1,), supervisors=M, classes=K, labels="uniform"))


def check_deterministic(cls: type[Method]) -> None:
    """Two runs agree bit by bit, whatever the state of the global random generators."""
    data = _data(cls)
    with _global_state_restored():
        first = _train(cls(), data)
        torch.rand(1), np.random.rand(1), random.random()  # noqa: NPY002
        second = _train(cls(), data)
    again = _values(second, data)
    for name, value in _values(first, data).items():
        _expect(torch.equal(value, again[name]), cls, f"two runs differ in {name}; draw from `generators` only")


def check_global_random_state(cls: type[Method]) -> None:
    """Global random generators are left as they were."""
    with _global_state_restored():
        before = _global_state()
        _train(cls(), _data(cls))
        after = _global_state()
    for name in before:
        _expect(before[name] == after[name], cls, f"changes the global random state of {name}")


def check_inputs_unchanged(cls: type[Method]) -> None:
    """Soft labels and features, which methods share, must not be written to; training finds it of soft labels."""
    data = _data(cls)
    before = {name: tensor.clone() for name, tensor in data.features.items()}
    _train(cls(), data)
    for name, tensor in data.features.items():
        _expect(torch.equal(tensor, before[name]), cls, f"writes to {name}")


def check_replicas_independent(cls: type[Method]) -> None:
    """Other seeds, their order and (for `single`) other supervisors make no difference to a replica."""
    M = max(3, cls.min_supervisors)
    data = make_data(seeds=(1, 2, 3), supervisors=M)
    whole = _values(_train(cls(), data), data)
    plans = [((3, 1), M), ((2,), M), *([((1, 2, 3), 1)] if cls.kind == "single" else [])]
    for seeds, supervisors in plans:
        data = make_data(seeds=seeds, supervisors=supervisors)
        for name, value in _values(_train(cls(), data), data).items():
            expected = whole[name][[seed - 1 for seed in seeds], : value.shape[1]]
            close = torch.allclose(value.double(), expected.double(), rtol=1e-5, atol=1e-5)
            _expect(close, cls, f"replicas are not independent: other replicas in the run change {name}")


def check_recorded(cls: type[Method]) -> None:
    """Steps that are recorded and replayed, as on a GPU, give what steps by Python give, bit by bit.

    A method that can't be recorded is trained by Python there, too, which is slower, but no fault.
    """
    M = max(3, cls.min_supervisors)
    for data in (make_data(supervisors=M, classes=2, pairs=True), make_data(supervisors=M, classes=10)):
        recipe = dataclasses.replace(RECIPE, epochs=5)
        with redirect_stderr(io.StringIO()):  # that it can't is said
            taped = _values(_train(cls(), data, recipe, Tape()), data)
        for name, value in _values(_train(cls(), data, recipe), data).items():
            _expect(torch.equal(value, taped[name]), cls, f"{name}: other values when steps are replayed as on a GPU")


def check_resumable(cls: type[Method]) -> None:
    """Costly students' training goes on where it was killed, which state in lists, dicts, arrays or modules forbids."""
    method = cls()
    _train(method, _data(cls))
    lost = ", ".join(unresumable(method))
    _expect(not lost, cls, f"state in {lost} can't be resumed; keep tensors, optimizers, generators or plain values")


def check_learns(cls: type[Method]) -> None:
    """Supervisors who are right teach the student: on labels linear in the features it gets most examples right."""
    data = make_data(supervisors=max(2, cls.min_supervisors), examples=64)
    truth = data.features["own"][..., :3].argmax(-1)  # (S, N), K = 3
    right = torch.nn.functional.one_hot(truth, 3) * 0.7 + 0.1
    soft_labels = right[:, None].expand_as(data.soft_labels).contiguous()
    data = dataclasses.replace(data, soft_labels=soft_labels)
    (trained,) = train([cls()], data, Recipe(learning_rate=3e-2, epochs=15, batch_size=16))
    predicted = trained.student.predict(data.features["own"]).argmax(-1)
    accuracy = (predicted == truth[:, None]).double().mean().item()
    _expect(accuracy > 0.7, cls, f"from supervisors who are always right the student learns {accuracy:.0%} only")


CHECKS: tuple[Callable[[type[Method]], None], ...] = (
    check_declaration,
    check_options,
    check_grid,
    check_losses,
    check_shapes,
    check_extreme_labels,
    check_deterministic,
    check_global_random_state,
    check_inputs_unchanged,
    check_replicas_independent,
    check_recorded,
    check_resumable,
    check_learns,
)


def _expect(condition: bool, cls: type[Method], message: str) -> None:
    """An assertion that names the method, and that `python -O` keeps."""
    if not condition:
        raise AssertionError(f"method '{cls.name}': {message}")


def _faults(loss: Tensor, logits: Tensor) -> Iterator[str]:
    """What is wrong with a loss."""
    if loss.shape != logits.shape[:2]:
        return  # the engine says so
    if not loss.isfinite().all():
        yield "loss is not finite"
    if not loss.requires_grad:
        yield "loss has no gradient for the logits"
        return
    for replica, own in enumerate(loss.unbind()):
        (grad,) = torch.autograd.grad(own.sum(), logits, retain_graph=True)
        if grad[:replica].any() or grad[replica + 1 :].any():
            yield "the loss of one replica depends on another's logits"


def _data(cls: type[Method]) -> TrainingData:
    """Three supervisors, or as many as the method needs."""
    return make_data(supervisors=max(3, cls.min_supervisors))


def _supervisors(cls: type[Method]) -> range:
    return range(cls.min_supervisors, max(5, cls.min_supervisors) + 1)


def _train(method: Method, data: TrainingData, recipe: Recipe = RECIPE, recorder: Recorder | None = None) -> Trained:
    """Train for a few steps; weights and diagnostics must be finite."""
    try:
        (trained,) = train([method], data, recipe, recorder=recorder)
    except MethodFailed as error:
        raise AssertionError(str(error)) from error
    M, K = data.soft_labels.shape[1], data.soft_labels.shape[-1]
    finite = {"the student's weights": trained.student.finite()}
    finite |= {f"diagnostics['{name}']": bool(v.isfinite().all()) for name, v in trained.diagnostics.items()}
    for name, good in finite.items():
        _expect(good, type(method), f"NaN or infinity in {name} with {M} supervisors and {K} classes")
    return trained


def _values(trained: Trained, data: TrainingData) -> dict[str, Tensor]:
    """Predicted classes, the student's weights and the diagnostics, each (S, h, ...)."""
    student, seeds = trained.student, len(data.seeds)
    assert isinstance(student, Heads)
    values = {"predictions": student.predict(data.features["own"]).argmax(-1), "the student's weights": student.weight}
    return values | {f"diagnostics['{name}']": v.unflatten(0, (seeds, -1)) for name, v in trained.diagnostics.items()}


def _global_state() -> dict[str, Any]:
    """States of the global random generators, comparable with ==."""
    _, keys, position, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    numpy_state = (np.asarray(keys).tobytes(), position, *rest)
    return {"random": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state().numpy().tobytes()}


@contextmanager
def _global_state_restored() -> Iterator[None]:
    """Leave the global random generators as they were, whatever happens inside."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
