"""Runs with language models as students, from the command line: units, records, options, kills, replies, memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.command_line import CommandLine, Outcome, command_line
from support.tiny import Models
from support.tiny_runs import PLUGIN, Tiny

pytest.importorskip("peft")

from benchmark.base.errors import W2SError
from benchmark.core.data import Recipe
from benchmark.core.names import CANARIES
from benchmark.core.registry import METHODS
from benchmark.running import unit as execution
from benchmark.running.executors.contract import in_this_process
from benchmark.students.language.network import Network, Settings
from benchmark.students.language.student import LanguageStudent
from support.units import setup_of, unit_of

FOR_TWO = [*(method.name for method in METHODS if method.min_supervisors <= 2), *CANARIES]  # supervisors


@pytest.fixture
def tiny(w2s: CommandLine, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    monkeypatch.setenv("W2S_TEST_MODELS", str(models.root))
    return Tiny(w2s, tmp_path)


@pytest.fixture(scope="module", params=["tiny-said", "tiny-chosen"])
def whole(
    request: pytest.FixtureRequest, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Tiny, Outcome]]:
    """All methods and canaries on one task, two seeds."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch, command_line(folder) as command:
        patch.setenv("W2S_TEST_MODELS", str(models.root))
        tiny = Tiny(command, folder)
        yield request.param, tiny, tiny(request.param, ",".join(FOR_TWO), seeds=2)


def test_every_method_runs_unchanged(whole: tuple[str, Tiny, Outcome]) -> None:
    _, tiny, outcome = whole
    assert outcome.status == 0, outcome
    assert "2 units run" in outcome.out  # one a seed
    assert not tiny.contents.problems
    assert set(tiny.records) == {(name, seed) for name in FOR_TWO for seed in (0, 1)}
    assert all(tiny.contents.misfit(record) is None for record in tiny.records.values())


def test_records_hold_what_was_chosen_and_what_was_cut(whole: tuple[str, Tiny, Outcome]) -> None:
    task, tiny, _ = whole
    policy = task == "tiny-chosen"
    for (method, _), record in tiny.records.items():
        student = record.hyperparameters["student"]
        assert student["lora_rank"] == 2
        assert student["lora_blocks"] == 2
        assert student["max_tokens"] == 12
        assert student["epochs"] == 1
        assert ("beta" in student) is policy
        assert "micro_batch" not in student
        assert record.diagnostics["sequences"] > 0
        if policy:  # 14 words and the end token do not fit into 12
            assert 0 < record.diagnostics["truncated_prompts"] <= record.diagnostics["sequences"]
            assert record.diagnostics["truncated_replies"] == 0
        steps = max(1, record.n_train // 128)
        if method in ("naive", "raven", "ground_truth"):
            assert record.cost == steps * (2 if method == "naive" else 1)
        assert record.libraries["peft"]


def test_nothing_is_left_to_do_and_no_checkpoint_stays(whole: tuple[str, Tiny, Outcome]) -> None:
    task, tiny, _ = whole
    assert tiny.checkpoints() == []
    again = tiny(task, ",".join(FOR_TWO), seeds=2)
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("nothing to do")


def test_what_changes_rounding_only_is_no_other_setting(whole: tuple[str, Tiny, Outcome]) -> None:
    task, tiny, _ = whole
    for option in ("micro_batch=2", "checkpointing=true", "micro_batch=none"):
        outcome = tiny(task, "naive,ground_truth", "--set", option, "--dry-run", seeds=2)
        assert outcome.out.startswith("0 units to run"), option
    for option in ("rank=4", "alpha=8", "blocks=1", "learning_rate=0.5", "epochs=3", "blocks=null"):
        outcome = tiny(task, "naive,ground_truth", "--set", option, "--dry-run", seeds=2)
        assert "2 units to run" in outcome.out, option


def test_a_smaller_micro_batch_gives_the_same_records(tiny: Tiny) -> None:
    tiny("tiny-said", "naive,raven")
    before = tiny.records
    tiny("tiny-said", "naive,raven", "--set", "micro_batch=3", "--force")
    after = tiny.records
    assert before.keys() == after.keys()
    for key, record in before.items():
        assert record.setting == after[key].setting
        assert record.predictions_sha256 == after[key].predictions_sha256


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("microbatch=2", "unknown option 'microbatch': did you mean 'micro_batch'?"),
        ("rank=0", "option rank=0: expected int, positive"),
        ("rank=2.5", "option rank=2.5: expected int"),
        ("rank=null", "option rank=None: expected int"),
        ("micro_batch=true", "option micro_batch=True: expected int or null"),
        ("checkpointing=1", "option checkpointing=1: expected bool"),
        ("epochs=2.5", "option epochs=2.5: expected a positive int"),
        ("learning_rate=NaN", "option learning_rate=nan: expected a positive float"),
        ("learning_rate=Infinity", "option learning_rate=inf: expected a positive float"),
        ("rank", "--set rank: expected name=value"),
        ("=3", "--set =3: expected name=value"),
    ],
)
def test_bad_options_are_refused_in_one_line(tiny: Tiny, option: str, message: str) -> None:
    assert tiny("tiny-said", "naive", "--set", option).refusal == message
    assert not tiny.results.exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("beta=NaN", "option beta=nan: expected float or int, positive"),
        ("preference_loss=hard", "option preference_loss=hard: expected soft or margin"),
    ],
)
def test_options_of_policies_are_refused_where_there_is_none(tiny: Tiny, option: str, message: str) -> None:
    assert tiny("tiny-chosen", "naive", "--set", option).refusal == message
    assert tiny("tiny-said", "naive", "--set", option).refusal.startswith(f"unknown option '{option.split('=')[0]}'")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("blocks=9", "has 4 blocks, expected 1..4"),
        ("supervisor_tokens=2", "max_tokens=2: this model's tokenizer needs 3 at least"),
    ],
)
def test_options_that_the_model_refuses_are_one_line(tiny: Tiny, option: str, message: str) -> None:
    outcome = tiny("tiny-said", "naive,raven,bootstrapping", "--set", option)
    assert outcome.status == 1
    lines = [line for line in outcome.out.splitlines() if message in line]
    assert len(lines) == 1, outcome
    assert lines[0].startswith("tiny-said (ood, seed 0): ")


class Killed(BaseException):
    pass


def test_a_kill_loses_the_seed_in_flight_only_and_that_goes_on(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[int, ...]] = []
    begin, end = LanguageStudent.__init__, execution._Epochs.__call__
    epochs = 0

    def counted(self: LanguageStudent, kind: Any, inputs: Any, seeds: tuple[int, ...], heads: int) -> None:
        started.append(seeds)
        begin(self, kind, inputs, seeds, heads)

    def killed(self: Any, share: float) -> None:
        nonlocal epochs
        end(self, share)
        epochs += share == 1
        if epochs == 3:  # two epochs a seed: in the middle of the second seed
            raise Killed

    monkeypatch.setattr(LanguageStudent, "__init__", counted)
    two = ("--set", "epochs=2")
    monkeypatch.setattr(execution._Epochs, "__call__", killed)
    with pytest.raises(Killed):
        tiny("tiny-said", "raven", *two, seeds=3)
    monkeypatch.setattr(execution._Epochs, "__call__", end)
    assert set(tiny.records) == {("raven", 0)}
    assert len(tiny.checkpoints()) == 1
    started.clear()
    outcome = tiny("tiny-said", "raven", *two, seeds=3)
    assert "2 units run" in outcome.out
    assert [seeds for seeds in started if seeds in ((0,), (1,), (2,))] == [(1,), (2,)]
    assert tiny.checkpoints() == []
    resumed = tiny.records
    tiny("tiny-said", "raven", *two, "--force", seeds=3)
    for key, record in tiny.records.items():
        assert record.predictions_sha256 == resumed[key].predictions_sha256
        assert record.diagnostics == resumed[key].diagnostics


def test_a_checkpoint_from_other_settings_is_refused_in_one_line(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = execution._Epochs.__call__

    def killed(self: Any, share: float) -> None:
        if share == 1:
            raise Killed

    monkeypatch.setattr(execution._Epochs, "__call__", killed)
    files: list[Path] = []
    for rate in ("0.01", "0.02"):
        with pytest.raises(Killed):
            tiny("tiny-said", "naive,raven", "--set", f"learning_rate={rate}")
        files += [path for path in tiny.checkpoints() if path not in files]
    monkeypatch.setattr(execution._Epochs, "__call__", whole)
    files[1].write_bytes(files[0].read_bytes())
    outcome = tiny("tiny-said", "naive,raven", "--set", "learning_rate=0.02")
    assert outcome.status == 1
    (line,) = [line for line in outcome.out.splitlines() if "checkpoint " in line]
    assert line.startswith(f"tiny-said (ood, seed 0): checkpoint {files[1]}: it is of a training with other settings (")
    assert "'learning_rate': 0.01" in line
    assert "'learning_rate': 0.02" in line
    assert tiny("tiny-said", "naive,raven", "--set", "learning_rate=0.01").status == 0  # that one goes on
    assert files[1].exists()


def test_a_failing_staged_method_costs_the_others_nothing(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    original = LanguageStudent.logits

    def counted(self: LanguageStudent, index: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return original(self, index)

    def broken(self: Any, trainer: Any) -> None:
        raise RuntimeError("no such stage")

    monkeypatch.setattr(LanguageStudent, "logits", counted)
    tiny("tiny-said", "naive,raven")
    alone, steps = steps, 0
    tiny("tiny-said", "naive,raven", "--force")
    alone = steps  # without the supervisors, which are cached
    steps = 0
    monkeypatch.setattr(METHODS["bootstrapping"], "fit", broken)
    outcome = tiny("tiny-said", "naive,raven,bootstrapping", "--force")
    assert outcome.status == 1
    assert "method 'bootstrapping': RuntimeError: no such stage" in outcome.out
    assert set(tiny.records) == {("naive", 0), ("raven", 0)}
    assert steps == alone


# replies


def test_replies_are_to_the_same_prompts_for_every_method(tiny: Tiny) -> None:
    outcome = tiny("tiny-chosen", "naive,ensemble,ground_truth", "--replies", "3", seeds=2)
    assert outcome.status == 0, outcome
    by_student: dict[tuple[str, int, int], dict[int, tuple[str, str]]] = {}
    for key, reply in tiny.replies.items():
        student = (key.record.method, key.record.seed, key.replica)
        by_student.setdefault(student, {})[key.example] = reply.prompt, reply.reference
        assert reply.reference.endswith("good")  # what the data set prefers
        assert reply.prompt.endswith("Assistant")
        assert len(reply.reply.split()) <= 12
    assert set(by_student) == {
        (method, seed, replica)
        for seed in (0, 1)
        for method, heads in (("naive", 2), ("ensemble", 1), ("ground_truth", 1))
        for replica in range(heads)
    }
    texts: dict[int, tuple[str, str]] = {}
    for (_, seed, _), found in by_student.items():
        assert len(found) == 3
        assert found == by_student["ensemble", seed, 0]
        for example, text in found.items():
            assert texts.setdefault(example, text) == text  # an id means the same in every seed


def test_every_made_pair_is_an_example_of_its_own(tiny: Tiny) -> None:
    outcome = tiny("tiny-rated", "ensemble", "--replies", "100", seeds=2)
    assert outcome.status == 0, outcome
    counts = dict.fromkeys((0, 1), 0)
    for key, reply in tiny.replies.items():
        counts[key.record.seed] += 1
        assert "good" in reply.reference
    assert counts == {seed: record.n_test for (_, seed), record in tiny.records.items()}
    again = tiny("tiny-rated", "ensemble", "--replies", "100", seeds=2)  # more than there are prompts
    assert again.out.startswith("nothing to do")


def test_replies_that_are_missing_are_made_and_old_ones_dropped(tiny: Tiny) -> None:
    tiny("tiny-chosen", "ensemble")
    assert tiny.replies == {}
    assert "1 units run" in tiny("tiny-chosen", "ensemble", "--replies", "2").out
    first = tiny.replies
    assert len(first) == 2
    assert tiny("tiny-chosen", "ensemble", "--replies", "2").out.startswith("nothing to do")
    assert tiny("tiny-chosen", "ensemble").out.startswith("nothing to do")
    assert tiny.replies == first
    tiny("tiny-chosen", "ensemble", "--force")
    assert tiny.replies == {}


def test_only_policies_reply(tiny: Tiny) -> None:
    assert tiny("tiny-said", "naive", "--replies", "2").refusal.startswith("--replies: only policies")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_reply_is_the_greedy_one_of_the_plain_model(models: Models, checkpointing: bool) -> None:
    from transformers import AutoModelForCausalLM

    net = Network(Settings(models["llama"], "policy", 2, 2, 2, 4, "cpu", checkpointing))
    assert net.trunk is not None
    prompts = [[7, 8, 9], [20], [30, 31, 32, 33, 34]]
    plain: Any = AutoModelForCausalLM.from_pretrained(models["llama"]).eval()
    with net.having([torch.stack([value, value]) for value in net.fresh(0)]):  # changes nothing
        first, second = net.replies(prompts, 6)
    assert first == second
    for prompt, reply in zip(prompts, first, strict=True):
        ids = list(prompt)
        with torch.inference_mode():
            while len(ids) < len(prompt) + 6:
                token = int(plain(torch.tensor([ids])).logits[0, -1].argmax())
                if token == net.tokenizer.end_id:
                    break
                ids.append(token)
        assert reply == ids[len(prompt) :]
    assert net.network.config.num_hidden_layers == 2  # cut again


# memory


def _is_supervisors(student: LanguageStudent) -> bool:
    return Path(student._kind.model).name == "bert"


def test_out_of_memory_says_which_knob_to_turn_and_other_seeds_go_on(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LanguageStudent.logits

    def full(self: LanguageStudent, index: Tensor) -> Tensor:
        if not _is_supervisors(self) and self._seeds == (0,):  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, index)

    begin = LanguageStudent.__init__

    def remembered(self: Any, kind: Any, inputs: Any, seeds: tuple[int, ...], heads: int) -> None:
        self._seeds = seeds
        begin(self, kind, inputs, seeds, heads)

    monkeypatch.setattr(LanguageStudent, "__init__", remembered)
    monkeypatch.setattr(LanguageStudent, "logits", full)
    asked = ("tiny-said", "naive,raven,bootstrapping,ground_truth", "--set", "batch_size=16")
    outcome = tiny(*asked, seeds=2)
    assert outcome.status == 1
    (line,) = [line for line in outcome.out.splitlines() if "GPU memory" in line]
    assert line == (
        "tiny-said (ood, seed 0): out of GPU memory; run again with --set micro_batch=8: gradients add up, results "
        "stay the same"
    )
    assert {seed for _, seed in tiny.records} == {1}
    monkeypatch.setattr(LanguageStudent, "logits", original)
    assert "1 units run" in tiny(*asked, "--set", "micro_batch=8", seeds=2).out
    assert {seed for _, seed in tiny.records} == {0, 1}


@pytest.mark.parametrize(
    ("options", "relief"),
    [
        ({}, "--set micro_batch=4: gradients add up"),
        ({"micro_batch": 4}, "--set micro_batch=2: gradients add up"),
        ({"micro_batch": 1}, "--set checkpointing=true: slower"),
        ({"micro_batch": 1, "checkpointing": True}, "--set max_tokens=6 or a smaller --set model="),
    ],
    ids=str,
)
def test_out_of_memory_in_the_backward_pass(
    tiny: Tiny, models: Models, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], relief: str
) -> None:
    held: list[weakref.ref[Any]] = []
    original = LanguageStudent.gradients

    def full(self: LanguageStudent, of_logits: Tensor) -> list[Tensor]:
        if _is_supervisors(self):
            return original(self, of_logits)
        held.extend([weakref.ref(self), weakref.ref(of_logits)])
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(LanguageStudent, "gradients", full)
    recipe, sizes = Recipe(epochs=1, batch_size=8), {"max_train": 24, "max_tokens": 12}
    setup = setup_of(tiny.cache, recipe, options={**sizes, **options}, plugins=(PLUGIN,))
    setup.load()
    unit = unit_of("tiny-said", "ood", ((("naive", "raven"), (0,)),), recipe, split=True)
    ((_, error),) = in_this_process([unit], setup, lambda job, text, share: None)
    assert isinstance(error, W2SError)
    assert relief in str(error)
    gc.collect()
    assert [ref() for ref in held] == [None, None]  # tried once, and its memory is free for the next unit
