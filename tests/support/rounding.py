"""How far two float32 computations of the same thing may lie apart, by rounding alone.

Another processor, library or batch adds the same terms up in another order. After n roundings of numbers no larger
than `scale` a result is off by at most 6 sqrt(n) u scale, u = 2^-24, but for a chance of n e^-18 (Higham & Mary 2019,
SIAM J. Sci. Comput. 41(5), with lambda = 6), so two results differ by at most twice that. n counts what follows on
each other: a product of length D is D, a network of L layers of width D some multiple of L D. It need not be exact:
with ten times as many roundings the tolerance is three times as large.

Adam divides a gradient's coordinate by its own size, so training has no such bound coordinate by coordinate. Rounding
is a share delta of the *largest* gradients; a coordinate whose gradient is a share g of those takes a step that is
off by delta / g of its length, at most wholly. If coordinates are spread evenly in g, the mean square of this is
below 2 delta. So after training all coordinates are compared together, and the allowed distance is a share sqrt(2
delta) of the distance that they have moved: some 0.5%. Another learning rate, schedule or minibatch makes more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

_UNIT = 2.0**-24  # of float32


def rounding(operations: int) -> float:
    """The largest relative difference of two float32 results after so many roundings each."""
    return float(2 * 6 * np.sqrt(operations) * _UNIT)


def assert_close(found: Any, expected: Any, operations: int, scale: Any = None) -> None:
    """Arrays or tensors of one shape that differ by rounding only.

    Args:
        operations: roundings that follow on each other, see above.
        scale: size of what was added up on the way, a number or an array that fits; by default the largest expected
            value. Give it where terms cancel, or where results are small beside what they are made from.
    """
    a, b = _array(found), _array(expected)
    assert a.shape == b.shape
    allowed = rounding(operations) * (np.abs(b).max(initial=0) if scale is None else _array(scale))
    difference = np.abs(a - b)
    assert (difference <= allowed).all(), f"differ by {difference.max()}, rounding explains {np.max(allowed)}"


def assert_trained_alike(found: Sequence[Any], expected: Sequence[Any], start: Sequence[Any], operations: int) -> None:
    """Weights (or what follows from them) after training from `start` that differ by rounding only.

    Args:
        operations: roundings that follow on each other, of all steps together.
    """
    moved = _distance(expected, start)
    assert moved > 0, "nothing was learned"
    share, allowed = _distance(found, expected) / moved, np.sqrt(2 * rounding(operations))
    assert share <= allowed, f"differ by {share:.2e} of the distance moved, rounding explains {allowed:.2e}"


def _array(values: Any) -> np.ndarray:
    values = values.detach().cpu() if isinstance(values, Tensor) else values
    return np.asarray(values, np.float64)


def _distance(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Euclidean, over all coordinates of all arrays or tensors."""
    pairs = zip(a, b, strict=True)
    return float(np.sqrt(sum(np.square(_array(x) - _array(y)).sum() for x, y in pairs)))
