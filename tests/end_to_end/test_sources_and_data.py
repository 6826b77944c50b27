"""Results of another source, of other data, and beside a method that spoils what all are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.core.code_hash import _kept_hash
from benchmark.results.store import ResultStore
from support.command_line import CommandLine, Outcome
from support.made_up import make_arrays, registries_restored

PLUGIN = """
from dataclasses import dataclass
from helper import weight
from benchmark.api import Method, cross_entropy, register_method

@register_method
@dataclass(eq=False)
class Agreement(Method):
    name, title, citation, kind = "agreement", "Agreement", "none", "ensemble"
    sign = 1.0

    def loss(self, logits, batch):
        return weight * self.sign * cross_entropy(logits, batch.soft_labels.mean(2))
"""
SPOILS = """
from benchmark.api import Method, cross_entropy, register_method

@register_method
class Clamped(Method):
    name, title, citation, kind = "clamped", "Clamped", "none", "ensemble"

    def loss(self, logits, batch):
        p = batch.soft_labels.clamp_(min=0.2)
        p /= p.sum(-1, keepdim=True)
        return cross_entropy(logits, p.mean(2))
"""
QUICK = ("--seeds", "1", "--set", "epochs=2", "--results", "r")


def test_an_edited_plugin_is_run_again_and_said(w2s: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own text, that of a module beside it, and another file with the same name of a method; not its comments."""
    np.savez("mine.npz", **make_arrays(100))
    monkeypatch.syspath_prepend(".")
    Path("helper.py").write_text("weight = 1.0\n")
    Path("a.py").write_text(PLUGIN)

    def run(file: str = "a.py") -> list[str]:
        with registries_restored():  # as in another process
            done = w2s("run", "--arrays", "mine.npz", "--methods", "agreement,naive", "--plugin", file, *QUICK)
        assert done.status == 0
        return done.out.splitlines()

    def source() -> str | None:
        (record,) = (r for r in ResultStore(Path("r")).load().records.values() if r.method == "agreement")
        return record.source_sha256

    ran = "1 units run, results in r"
    changed = "source of method 'agreement' changed since its records were made (same version 1): running again"
    assert run() == [ran]
    known = [source()]
    for file, text in (
        ("a.py", PLUGIN.replace("sign = 1.0", "sign = -1.0")),
        ("helper.py", "weight = 2.0\n"),
        ("b.py", PLUGIN.replace("Agreement", "Quite").replace("batch.soft_labels.", "-batch.soft_labels.")),
    ):
        Path(file).write_text(text)
        sys.modules.pop("helper")
        _kept_hash.cache_clear()
        plugin = "b.py" if file == "b.py" else "a.py"
        with registries_restored():
            assert "1: source of agreement changed" in w2s("list", "results", "--results", "r", "--plugin", plugin).out
        assert run(plugin) == [changed, ran]
        known.append(source())
        assert run(plugin) == ["nothing to do: all is in r"]
    assert len(set(known)) == 4
    Path("b.py").write_text(f"# a comment\n{Path('b.py').read_text()}")
    assert run("b.py") == ["nothing to do: all is in r"]
    assert "stale" in w2s("list", "results", "--results", "r").out


def test_other_data_under_a_name_that_is_taken(w2s: CommandLine) -> None:
    for folder, seed in (("a", 0), ("b", 1)):
        Path(folder).mkdir()
        np.savez(f"{folder}/mine.npz", **make_arrays(100, seed=seed))

    def run(folder: str, methods: str, *more: str) -> Outcome:
        with registries_restored():  # as in a process of its own
            return w2s("run", "--arrays", f"{folder}/mine.npz", "--methods", methods, *QUICK, *more)

    assert run("a", "ensemble,naive").status == 0
    before = Path("r/naive/records.jsonl").read_bytes()
    for methods in ("naive", "raven"):
        refusal = run("b", methods).refusal
        assert refusal == (
            "r: holds 2 results of task 'mine' (ood) from other data than those of this run; "
            "name another folder with --results, or replace them with --force"
        )
    assert Path("r/naive/records.jsonl").read_bytes() == before
    forced = run("b", "ensemble,naive", "--force")
    assert (forced.status, forced.out.splitlines()) == (
        0,
        [
            "r: holds 2 results of task 'mine' (ood) from other data than those of this run: replacing them (--force)",
            "1 units run, results in r",
        ],
    )
    assert run("b", "naive").out == "nothing to do: all is in r\n"


@pytest.mark.parametrize(
    ("stem", "name"), [("数据", "数据"), ("데이터", "데이터"), ("u\u0308n\u0131", "\u00fcn\u0131"), ("-", "arrays")]
)
def test_a_file_s_name_keeps_its_letters(w2s: CommandLine, stem: str, name: str) -> None:
    np.savez(f"{stem}.npz", **make_arrays(100))
    done = w2s("run", "--arrays", f"{stem}.npz", "--methods", "ensemble", *QUICK[:-2])
    assert (done.status, done.out) == (0, f"1 units run, results in runs/arrays-{name}\n")
    record = json.loads(Path(f"runs/arrays-{name}/ensemble/records.jsonl").read_text())
    assert record["task"] == name
    assert w2s("leaderboard", "--results", f"runs/arrays-{name}").status == 0


def test_a_method_that_spoils_what_all_are_given_fails_alone(w2s: CommandLine) -> None:
    np.savez("mine.npz", **make_arrays(100))
    Path("spoils.py").write_text(SPOILS)
    assert w2s("run", "--arrays", "mine.npz", "--methods", "naive,raven", *QUICK).status == 0
    names = [
        f"{method}/{file}" for method in ("naive", "raven") for file in ("records.jsonl", "predictions.safetensors")
    ]
    before = [Path("r", name).read_bytes() for name in names]
    asked = ("run", "--arrays", "mine.npz", "--methods", "clamped,naive,raven", "--plugin", "spoils.py", *QUICK[:-1])
    done = w2s(*asked, "beside")
    assert done.status == 1
    assert done.out.splitlines()[1:] == [
        "mine (ood): method 'clamped': writes into batch.soft_labels, which other methods are given, too; "
        "write to a copy (.clone())"
    ]
    assert [Path("beside", name).read_bytes() for name in names] == before
    assert not Path("beside/clamped").exists()
