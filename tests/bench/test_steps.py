"""A step of all one-stage methods as it was, as it is, and of several units together, in turns: `make bench`. On a GPU
`make gpu-check` has the same."""

from __future__ import annotations

from pathlib import Path
from subprocess import run
from sys import executable

import pytest
import torch
from former import former_train
from gpu_check import PARTS, _in_turns, _methods, _unit

from benchmark.core.data import Recipe
from benchmark.core.training import train
from support.rounding import assert_close


@pytest.mark.parametrize(("K", "D"), [(2, 384), (10, 1280)])
def test_steps_of_one_unit_and_of_several(K: int, D: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one, four = (_unit(1400, D, K, "cpu", 0, seeds=seeds) for seeds in (5, 20))
        ways = {"former": former_train, "now": train}
        taken = benchmark.pedantic(lambda: _in_turns(ways, _methods, one, (2, 6), "cpu"), rounds=1)
        together = _in_turns({"now": train}, _methods, four, (2, 6), "cpu")["now"] / 4
    finally:
        torch.set_num_threads(threads)
    former, now = taken["former"], taken["now"]
    print(f"\nK = {K}, D = {D}: a unit and step {former:.0f} us, now {now:.0f} ({former / now:.2f} x), ", end="")
    print(f"four units together {together:.0f} ({former / together:.2f} x)")


def test_the_former_step_gives_the_same_weights() -> None:
    data = _unit(280, 12, 3, "cpu", 1)
    now, former = train(_methods(), data, Recipe(epochs=3)), former_train(_methods(), data, Recipe(epochs=3))
    for own, heads in zip(now, former, strict=True):
        assert_close(own.student.weight, heads.weight, 6 * (12 + 128 + 3))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_every_part_of_the_gpu_check_works_on_a_tiny_size() -> None:
    """But for those that other tests are: the tests themselves and the encoders."""
    parts = ",".join(part for part in PARTS if part not in ("tests", "encoders"))
    script = Path(__file__).with_name("gpu_check.py")
    done = run([executable, script, "--device", "cpu", "--tiny", "--parts", parts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"failed": []' in done.stdout
    wheels = run([executable, script, "--wheels"], capture_output=True, text=True, check=True).stdout
    assert "==" in wheels
    assert "?" not in wheels
