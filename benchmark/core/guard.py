"""A method's own code: what it raises is its failure; and so is a write into what it is given, which others share.

A write by an operation of torch raises the version counter of its tensor, and so of all views: counters are read around
each call of a method's code, which tells whose write it was. Writes around the counters (`.data`, a view by NumPy) show
in the content, which is compared with a clean copy: a step's after the step (of logits, in an epoch's first), soft
labels and features of the whole train split after each stage. If several methods trained, whose it was shows when all
is done again `closely`: contents are then compared after each call. Recorded steps are watched when they are rehearsed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.base.errors import MethodFailed, W2SError
from benchmark.core.method import Method
from benchmark.core.recording import storage

_GIVEN = ("logits", "batch.soft_labels", "batch.index")


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


class Wrote(MethodFailed):
    """A method wrote into what others are given, too."""

    def __init__(self, method: str, what: Sequence[str]) -> None:
        shared = " and ".join(what)
        super().__init__(
            method, f"writes into {shared}, which other methods are given, too; write to a copy (.clone())"
        )


class SomeoneWrote(Exception):
    """One of several methods did; training them `closely` tells which."""


class Guard:
    """What the methods of one training are given, and whether it is as it was.

    Args:
        soft_labels: all that is learned from, (S, M, N, K), contiguous; nobody gets these, methods get copies.
        features: of the train split, if a method wants them, likewise.

    Attributes:
        soft_labels, features: the copies of which methods get views before training.
        closely: whether contents are compared after each call of a method's code.
        thorough: whether logits are compared as well.
    """

    def __init__(self, soft_labels: Tensor, closely: bool = False, features: Tensor | None = None) -> None:
        self.soft_labels, self.closely, self.thorough = soft_labels.clone(), closely, closely
        self.features = None if features is None else features.clone()
        pairs = {"soft_labels": (soft_labels, self.soft_labels), "features": (features, self.features)}
        self._whole = {f"supervision.{k}": (a, b) for k, (a, b) in pairs.items() if a is not None and b is not None}
        self._versions = {name: given._version for name, (_, given) in self._whole.items()}
        self._step: dict[str, tuple[Tensor, Tensor]] = {}  # what it was, and what methods have of it

    def lend(self, index: Tensor, soft_labels: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of a step's examples and their soft labels, both contiguous, for methods."""
        at, given = index.clone(), soft_labels.clone()
        self._step = {"batch.soft_labels": (soft_labels, given), "batch.index": (index, at)}
        return at, given

    def lend_logits(self, logits: Tensor) -> None:
        """The step's logits, which methods get as they are."""
        self._step["logits"] = logits.clone() if self.thorough else logits, logits

    def lent(self) -> dict[int, str]:
        """The memory that methods may not write to, and what it is."""
        return {storage(given): name for name, (_, given) in (self._whole | self._step).items()}

    def check(self, method: Method, before: tuple[int, ...] = (), after: tuple[int, ...] = ()) -> None:
        """After a call of a method's code, with the versions of the logits, soft labels and index that it was given.

        Raises:
            Wrote: it is found that it wrote.
        """
        wrote = [name for name, old, new in zip(_GIVEN, before, after, strict=False) if old != new]
        wrote += [name for name, (_, given) in self._whole.items() if given._version != self._versions[name]]
        if wrote:
            raise Wrote(method.name, wrote)
        if self.closely:
            self.compare([method], whole=True)

    def compare(self, methods: Sequence[Method], whole: bool = False) -> None:
        """After calls of code of all these methods, of each some; with `whole`, also what they have from the start.

        Raises:
            Wrote: the one method wrote. SomeoneWrote: one of them did.
        """
        pairs = self._step | self._whole if whole else self._step
        if wrote := [name for name, (was, given) in pairs.items() if not _same(was, given)]:
            raise Wrote(methods[0].name, wrote) if len(methods) == 1 else SomeoneWrote(" and ".join(wrote))


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether they hold the same bits."""
    if a is b or torch.equal(a, b):
        return True
    a, b = a.contiguous(), b.contiguous()  # a NaN is itself
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8))
