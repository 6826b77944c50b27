"""Every registered method passes the contract suite (so do those of a `--plugin FILE`), and the suite finds faults."""

import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import benchmark
from benchmark import testing
from benchmark.api import Batch, Method, Supervision, cross_entropy, product_grid
from benchmark.core.registry import METHODS
from methods.ensemble import Ensemble
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


@dataclass(eq=False)
class Undocumented(Faulty):
    note: str = ""


class Undecorated(Faulty):
    """An option that is none."""

    rate: float = 0.1


@dataclass(eq=False)
class NeedsAnOption(Faulty):
    """An option without a default."""

    rate: Any = field(kw_only=True)


@dataclass(eq=False)
class TensorOption(Faulty):
    """An option that JSON does not know."""

    rate: Any = field(default_factory=lambda: torch.ones(1))


@dataclass(eq=False)
class SevenSettings(Faulty):
    """One less than the others."""

    grid = Faulty.grid[:-1]


@dataclass(eq=False)
class SettingThatFails(Faulty):
    """A value that does not train."""

    grid = product_grid(power=(0, 2, 3), epochs_times=(0.5,))
    power: int = 1

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits, batch) * (1 / self.power)


@dataclass(eq=False)
class ChangesItsOptions(Faulty):
    """State in a field."""

    steps: int = 0

    def after_step(self) -> None:
        self.steps += 1


@dataclass(eq=False)
class MeanLoss(Faulty):
    """Loss (R,)."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits, batch).mean(1)


@dataclass(eq=False)
class MixesReplicas(Faulty):
    """The mean over replicas stands in every replica's loss."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits - 0.1 * logits.mean(0), batch)


@dataclass(eq=False)
class WritesToTheBatch(Faulty):
    """Normalises in place."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        batch.soft_labels.mul_(0.5)
        return super().loss(logits, batch)


@dataclass(eq=False)
class NoGradient(Faulty):
    """Detached."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits.detach(), batch) + 0 * logits.sum().detach()


@dataclass(eq=False)
class ThreeSupervisorsOnly(Faulty):
    """Weights for three."""

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        return (soft_labels * torch.tensor([0.5, 0.25, 0.25])[:, None]).sum(2)


@dataclass(eq=False)
class NeedsContiguousLogits(Faulty):
    """Views what is strided."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits.view(-1).view(logits.shape), batch)


@dataclass(eq=False)
class DiagnosticsWithoutReplicas(Faulty):
    """One number for all."""

    def diagnostics(self) -> dict[str, Tensor]:
        return {"mean": self.targets.mean((0, 1))[:1]}


@dataclass(eq=False)
class LogOfZero(Faulty):
    """Infinite on one-hot labels."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        target = self.target(batch)
        return super().loss(logits, batch) + (logits * target.log().clamp_min(-1e38) * 1e10).sum(-1)


@dataclass(eq=False)
class GlobalNoise(Faulty):
    """Draws from the global generator."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits, batch) * (1 + random.random())


@dataclass(eq=False)
class SeedsTheWorld(Faulty):
    """Seeds the global generator."""

    def start(self, supervision: Supervision) -> None:
        super().start(supervision)
        torch.manual_seed(0)


@dataclass(eq=False)
class WritesToTheLabels(Faulty):
    """Sharpens in place."""

    def start(self, supervision: Supervision) -> None:
        supervision.soft_labels.pow_(2)
        super().start(supervision)


@dataclass(eq=False)
class SharedDraws(Raven):
    """All replicas draw from the first one's generator."""

    name = "faulty"
    init: str = "random"

    def start(self, supervision: Supervision) -> None:
        first = supervision.generators[0]
        object.__setattr__(supervision, "generators", tuple(first for _ in supervision.generators))
        super().start(supervision)


@dataclass(eq=False)
class SharedTargets(Faulty):
    """The mean over replicas is everybody's target."""

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        mean = super().aggregate(soft_labels)
        return mean.mean(0, keepdim=True).expand_as(mean)


@dataclass(eq=False)
class SharedAmongSupervisors(Method):
    """A `single` method whose supervisors see one another."""

    name = "faulty"
    title = citation = "fault"
    kind = "single"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        together = batch.soft_labels.squeeze(2).mean(0, keepdim=True)
        return cross_entropy(logits, together.expand_as(logits))


@dataclass(eq=False)
class WrongSign(Faulty):
    """Learns to contradict."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return -super().loss(logits, batch)


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        (Undocumented, testing.check_declaration, "docstring"),
        (Undecorated, testing.check_declaration, "dataclass"),
        (NeedsAnOption, testing.check_declaration, "default"),
        (TensorOption, testing.check_options, "JSON"),
        (ChangesItsOptions, testing.check_options, "options changed"),
        (SevenSettings, testing.check_grid, "expected 8 settings"),
        (SettingThatFails, testing.check_grid, r"division by zero \(setting {'power': 0} of its grid\)"),
        (MeanLoss, testing.check_losses, r"loss has shape \(2,\), expected"),
        (MixesReplicas, testing.check_losses, "another's logits"),
        (WritesToTheBatch, testing.check_losses, "writes to batch.soft_labels"),
        (NoGradient, testing.check_losses, "no gradient"),
        (ThreeSupervisorsOnly, testing.check_shapes, "size of tensor"),
        (NeedsContiguousLogits, testing.check_shapes, "view size is not compatible"),
        (DiagnosticsWithoutReplicas, testing.check_shapes, "expected 2 replicas"),
        (LogOfZero, testing.check_extreme_labels, "NaN or infinity"),
        (GlobalNoise, testing.check_deterministic, "two runs differ"),
        (GlobalNoise, testing.check_global_random_state, "random state of random"),
        (SeedsTheWorld, testing.check_global_random_state, "random state of torch"),
        (WritesToTheLabels, testing.check_inputs_unchanged, "writes to soft_labels"),
        (SharedDraws, testing.check_replicas_independent, "not independent"),
        (SharedTargets, testing.check_replicas_independent, "not independent"),
        (SharedAmongSupervisors, testing.check_replicas_independent, "not independent"),
        (WrongSign, testing.check_learns, "always right"),
    ],
)
def test_faults_are_found(cls: type[Method], check: Check, message: str) -> None:
    with pytest.raises(AssertionError, match=f"method 'faulty'.*{message}"):
        check(cls)
    assert check in testing.CHECKS
