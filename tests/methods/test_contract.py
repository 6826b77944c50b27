"""Every registered method passes the contract suite (so do those of a `--plugin FILE`), and the suite finds faults."""

import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import benchmark
from benchmark import testing
from benchmark.api import Batch, Method, Supervision, cross_entropy, product_grid
from benchmark.core.names import Family
from benchmark.core.registry import METHODS
from methods.ensemble import Ensemble
from methods.naive import Naive
from methods.raven import Raven

Check = Callable[[type[Method]], None]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are tiny
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("cls", list(METHODS), ids=lambda cls: cls.name)
def test_contract(cls: type[Method], check: Check) -> None:
    check(cls)


@pytest.mark.parametrize("cls", list(METHODS), ids=lambda cls: cls.name)
def test_every_method_names_its_family(cls: type[Method]) -> None:
    """And itself where its base is a frame for methods of any family, whose own it would inherit."""
    assert cls.family in get_args(Family)
    assert "family" in vars(cls) or cls.__base__ not in (Ensemble, Naive)


def test_the_template_is_a_method(tmp_path: Path) -> None:
    text = (Path(benchmark.__file__).parent / "templates" / "method.py.txt").read_text()
    file = tmp_path / "method_of_the_template.py"
    file.write_text(text.replace("{name}", "method_of_the_template").replace("{class_name}", "MethodOfTheTemplate"))
    spec = importlib.util.spec_from_file_location("method_of_the_template", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        METHODS._items.pop("method_of_the_template", None)
    testing.check_method(module.MethodOfTheTemplate)


# methods with one fault each, and the check that must find it


class Faulty(Ensemble):
    """A method that works; what is derived from it does not."""

    name = "faulty"


def plain(method: Any, logits: Tensor, batch: Batch) -> Tensor:
    """The loss of the method that works."""
    return Faulty.loss(method, logits, batch)


def faulty(base: type[Method] = Faulty, decorated: bool = True, **members: Any) -> type[Method]:
    """A method like `base`, but for these members; those in `options` are its options."""
    options = members.pop("options", {})
    notes = {name: type(value) for name, value in options.items()}
    own = {"__doc__": "One fault.", "__annotations__": notes, "__module__": __name__, **options, **members}
    cls = type("AFault", (base,), {name: value for name, value in own.items() if value is not REQUIRED})
    return dataclass(eq=False)(cls) if decorated else cls


REQUIRED = object()


@dataclass(eq=False)
class SharedDraws(Raven):
    """All replicas draw from the first one's generator."""

    name = "faulty"
    init: str = "random"

    def start(self, supervision: Supervision) -> None:
        first = supervision.generators[0]
        object.__setattr__(supervision, "generators", tuple(first for _ in supervision.generators))
        super().start(supervision)


class SharedAmongSupervisors(Method):
    """A `single` method whose supervisors see one another."""

    name = "faulty"
    title = citation = "fault"
    kind = "single"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        together = batch.soft_labels.squeeze(2).mean(0, keepdim=True)
        return cross_entropy(logits, together.expand_as(logits))


def seeds_the_world(method: Any, supervision: Supervision) -> None:
    Faulty.start(method, supervision)
    torch.manual_seed(0)


def keeps_a_tuple(method: Any, supervision: Supervision) -> None:
    method.generators = supervision.generators
    Faulty.start(method, supervision)


def writes_to_the_labels(method: Any, supervision: Supervision) -> None:
    supervision.soft_labels.pow_(2)
    Faulty.start(method, supervision)


def writes_to_the_batch(method: Any, logits: Tensor, batch: Batch) -> Tensor:
    batch.soft_labels.mul_(0.5)
    return plain(method, logits, batch)


def counts_in_an_option(method: Any) -> None:
    method.steps += 1


def shares_targets(method: Any, soft_labels: Tensor) -> Tensor:
    mean = Faulty.aggregate(method, soft_labels)
    return mean.mean(0, keepdim=True).expand_as(mean)


def is_infinite_on_one_hot_labels(method: Any, logits: Tensor, batch: Batch) -> Tensor:
    target = method.target(batch)
    return plain(method, logits, batch) + (logits * target.log().clamp_min(-1e38) * 1e10).sum(-1)


def noise(method: Any, logits: Tensor, batch: Batch) -> Tensor:
    return plain(method, logits, batch) * (1 + random.random())


THREE = torch.tensor([0.5, 0.25, 0.25])[:, None]
FAULTS: list[tuple[str, type[Method], Check, str]] = [
    ("no docstring", faulty(__doc__=None), testing.check_declaration, "docstring"),
    ("no dataclass", faulty(decorated=False, options={"rate": 0.1}), testing.check_declaration, "dataclass"),
    ("a family of its own", faulty(family="voting"), testing.check_declaration, "family must be one of"),
    ("no default", faulty(options={"rate": field(kw_only=True)}), testing.check_declaration, "default"),
    (
        "a tensor as option",
        faulty(options={"rate": field(default_factory=lambda: torch.ones(1))}),
        testing.check_options,
        "JSON",
    ),
    (
        "state in an option",
        faulty(options={"steps": 0}, after_step=counts_in_an_option),
        testing.check_options,
        "options changed",
    ),
    ("seven settings", faulty(grid=Faulty.grid[:-1]), testing.check_grid, "expected 8 settings"),
    (
        "a setting that fails",
        faulty(
            options={"power": 1},
            grid=product_grid(power=(0, 2, 3), epochs_times=(0.5,)),
            loss=lambda method, logits, batch: plain(method, logits, batch) * (1 / method.power),
        ),
        testing.check_grid,
        r"division by zero \(setting {'power': 0} of its grid\)",
    ),
    (
        "an option that does not vary",
        faulty(options={"power": 1}, grid=({}, *({**setting, "power": 1} for setting in Faulty.grid[1:]))),
        testing.check_grid,
        "grid: power has one value only, 1; leave it out, or vary it",
    ),
    (
        "state in a tuple",
        faulty(start=keeps_a_tuple),
        testing.check_resumable,
        "state in generators can't be resumed; keep tensors",
    ),
    ("what there is not", faulty(uses=("truth",)), testing.check_declaration, "uses may name features, source_scores"),
    (
        "a mean loss",
        faulty(loss=lambda *given: plain(*given).mean(1)),
        testing.check_losses,
        r"loss has shape \(2,\), expected",
    ),
    (
        "replicas mixed",
        faulty(loss=lambda method, logits, batch: plain(method, logits - 0.1 * logits.mean(0), batch)),
        testing.check_losses,
        "another's logits",
    ),
    ("writes to the batch", faulty(loss=writes_to_the_batch), testing.check_losses, "writes to batch.soft_labels"),
    (
        "no gradient",
        faulty(loss=lambda method, logits, batch: plain(method, logits.detach(), batch) + 0 * logits.sum().detach()),
        testing.check_losses,
        "no gradient",
    ),
    (
        "three supervisors only",
        faulty(aggregate=lambda method, soft_labels: (soft_labels * THREE).sum(2)),
        testing.check_shapes,
        "size of tensor",
    ),
    (
        "contiguous logits only",
        faulty(loss=lambda method, logits, batch: plain(method, logits.view(-1).view(logits.shape), batch)),
        testing.check_shapes,
        "view size is not compatible",
    ),
    (
        "one number for all replicas",
        faulty(diagnostics=lambda method: {"mean": method.targets.mean((0, 1))[:1]}),
        testing.check_shapes,
        "expected 2 replicas",
    ),
    ("log of zero", faulty(loss=is_infinite_on_one_hot_labels), testing.check_extreme_labels, "NaN or infinity"),
    ("noise", faulty(loss=noise), testing.check_deterministic, "two runs differ"),
    ("global noise", faulty(loss=noise), testing.check_global_random_state, "random state of random"),
    ("a global seed", faulty(start=seeds_the_world), testing.check_global_random_state, "random state of torch"),
    (
        "writes to the labels",
        faulty(start=writes_to_the_labels),
        testing.check_inputs_unchanged,
        "writes into supervision.soft_labels",
    ),
    (
        "shared draws",
        faulty(SharedDraws, options={"init": "random"}),
        testing.check_replicas_independent,
        "not independent",
    ),
    ("shared targets", faulty(aggregate=shares_targets), testing.check_replicas_independent, "not independent"),
    ("shared among supervisors", faulty(SharedAmongSupervisors), testing.check_replicas_independent, "not independent"),
    ("the wrong sign", faulty(loss=lambda *given: -plain(*given)), testing.check_learns, "always right"),
]


@pytest.mark.parametrize(("fault", "cls", "check", "message"), FAULTS, ids=[fault for fault, *_ in FAULTS])
def test_faults_are_found(fault: str, cls: type[Method], check: Check, message: str) -> None:
    with pytest.raises(AssertionError, match=f"method 'faulty'.*{message}"):
        check(cls)
    assert check in testing.CHECKS
