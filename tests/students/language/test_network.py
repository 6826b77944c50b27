"""The network computes what the plain Hugging Face model does, and replicas don't mix."""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from support.laws import seeds
from support.rounding import assert_close
from support.tiny import DEPTH, FAMILIES, ROUNDINGS, Models, random_texts, save_model

pytest.importorskip("peft")

from benchmark.base.errors import W2SError
from benchmark.core.inputs import Prompted
from benchmark.students.language.network import Network, Objective, Settings, _load
from benchmark.students.language.sequences import Lengths, Sequences, pad
from benchmark.students.language.student import LanguageModel, LanguageStudent

DECODERS = ("llama", "gpt2", "gpt2-no-pad")


def network(model: str, objective: Objective, blocks: int | None = 2, **more: Any) -> tuple[LanguageModel, Network]:
    kind = LanguageModel(objective, 2, model, blocks, rank=4, max_tokens=20, **more)
    return kind, kind.network("cpu")


def moved(net: Network, seed: int = 0) -> list[Tensor]:
    """A replica away from the start, where LoRA's B is 0."""
    rng = torch.Generator().manual_seed(seed)
    return [p + 0.2 * torch.randn(p.shape, generator=rng) for p in net.fresh(seed)]


def scores(net: Network, policy: bool, tokens: Sequences, rows: list[int], *replicas: list[Tensor]) -> Tensor:
    """Logits (R, n, K), or log-probabilities (R, n), of replicas for the same sequences."""
    where = torch.tensor([rows])
    (extent,) = Lengths(tokens).extents(where[None])
    with net.having([torch.stack(own) for own in zip(*replicas, strict=True)]):
        return (net.log_probs if policy else net.classify)(tokens, where, extent)


def prompted(n: int = 9) -> list[Prompted]:
    rng = np.random.default_rng(0)
    return [Prompted(p, r) for p, r in zip(random_texts(n, rng), random_texts(n, rng, 5), strict=True)]


def merged(model: str, kind: LanguageModel, replica: list[Tensor], objective: str) -> Any:
    """The plain model with a replica's weights merged into its own, by name."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.pytorch_utils import Conv1D

    if objective == "policy":
        plain: Any = AutoModelForCausalLM.from_pretrained(model)
    else:
        labels = 2 if objective == "classifier" else 1
        torch.manual_seed(0)  # for what the files lack: BERT's pooler
        plain = AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels)
        plain.config.pad_token_id = kind.network("cpu").tokenizer.pad_id
    net = kind.network("cpu")
    first = DEPTH - (kind.blocks or DEPTH) if net.trunk else 0
    by_path = dict(zip(net.slots, replica, strict=True))
    with torch.no_grad():
        for path, p in by_path.items():
            name, _, what = path.rpartition(".")
            if what == "up":
                continue
            if what == "down":
                change = kind.alpha / kind.rank * by_path[f"{name}.up"] @ p
                for position in range(DEPTH):
                    if f".layers.{position}." in name and first:
                        name = name.replace(f".layers.{position}.", f".layers.{position + first}.")
                        break
                module = plain.get_submodule(name)
                if name == "lm_head":  # tied to the embeddings in some families
                    module.weight = torch.nn.Parameter(module.weight + change)
                else:
                    module.weight += change.T if isinstance(module, Conv1D) else change
            else:
                plain.get_parameter(path).copy_(p)
    return plain.eval()


def below(net: Network, tokens: Sequences) -> Sequences:
    """With the states that enter the trained blocks, where the network is cut."""
    if net.trunk is None:
        return tokens
    return tokens.having(states=net.trunk.states(tokens, net.tokenizer.pad_id, "cpu", batch=4))


@pytest.mark.parametrize("blocks", [2, None])
@pytest.mark.parametrize(
    ("family", "objective"),
    [*product(DECODERS, ("policy",)), *product((*DECODERS, "bert", "roberta"), ("classifier", "reward"))],
)
def test_outputs_are_those_of_the_plain_model(
    models: Models, family: str, objective: Objective, blocks: int | None
) -> None:
    """Logits, or log-probabilities of replies, of a replica whose weights are merged into the plain model's."""
    kind, net = network(models[family], objective, blocks)
    replica, policy = moved(net), objective == "policy"
    texts = random_texts(9, np.random.default_rng(1))
    tokens = below(net, net.tokenizer.prompted(prompted(), 20) if policy else net.tokenizer.texts(texts, 20))
    rows = [3, 0, 8, 5, 3]
    (found,) = scores(net, policy, tokens, rows, replica)
    plain = merged(models[family], kind, replica, objective)
    for row, value in zip(rows, found, strict=True):
        ids, begin = tokens.ids[int(tokens.starts[row]) : int(tokens.starts[row + 1])], int(tokens.replies[row])
        expected = plain(ids[None]).logits[0].detach()
        if policy:
            expected = expected.log_softmax(-1)[begin - 1 : -1].gather(1, ids[begin:, None]).sum()
        assert_close(value, expected, ROUNDINGS)


@pytest.mark.parametrize("family", ["llama", "gpt2-no-pad"])
@pytest.mark.parametrize("texts", [["", "w1 w2 w3"], ["w4", "w1 w2 w3 w9"]], ids=["empty", "short"])
def test_a_row_does_not_depend_on_its_neighbours(models: Models, family: str, texts: list[str]) -> None:
    for blocks in (2, None):
        _, net = network(models[family], "classifier", blocks)
        tokens = below(net, net.tokenizer.texts(texts, 20))
        together, alone = (scores(net, False, tokens, rows, moved(net)) for rows in ([0, 1], [0]))
        assert_close(together[:, :1], alone, ROUNDINGS)


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2-no-pad"])
def test_replicas_share_a_pass_and_masks_are_made_here(models: Models, family: str) -> None:
    """Wherever that can be; a family that is found unfit still gives the right results, only slowly."""
    for objective in ("classifier", *(["policy"] if family not in ("bert", "roberta") else [])):
        _, net = network(models[family], objective)  # type: ignore[arg-type]
        assert net.replicas_at_once(100) > 1
        assert net._window == (3 if family == "qwen2" else sys.maxsize)


@pytest.mark.parametrize("objective", ["classifier", "policy"])
def test_only_models_whose_blocks_stand_alone_are_cut(models: Models, objective: Objective) -> None:
    assert network(models["llama"], objective)[1].trunk
    assert not network(models["llama"], objective, None)[1].trunk
    assert not network(models["llama"], objective, DEPTH)[1].trunk
    assert not network(models["gpt2"], objective)[1].trunk
    # two kinds of blocks, told apart by position
    assert not network(models["qwen2"], objective)[1].trunk
    assert not network(models["bert"], "classifier")[1].trunk


def test_blocks_of_two_kinds_keep_theirs(models: Models) -> None:
    from transformers import AutoModelForCausalLM

    kind = LanguageModel("policy", 2, models["qwen2"], 3, rank=4)
    net = kind.network("cpu")
    ids = torch.arange(6, 26)  # longer than the window of 3
    tokens = below(net, Sequences(ids, torch.tensor([0, 20]), torch.tensor([8])))
    plain: Any = AutoModelForCausalLM.from_pretrained(models["qwen2"]).eval()
    log_p = plain(ids[None]).logits[0].log_softmax(-1)
    expected = log_p[7:-1].gather(1, ids[8:, None]).sum()
    assert_close(scores(net, True, tokens, [0], net.fresh(0))[0, 0], expected, ROUNDINGS)


@pytest.mark.parametrize(("family", "left"), [("llama", True), ("bert", False)])
def test_padding_side(models: Models, family: str, left: bool) -> None:
    assert network(models[family], "classifier")[1].left is left


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 3), st.booleans(), seeds)
def test_rows_are_padded_on_either_side(lengths: list[int], more: int, left: bool, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(10, 99, sum(lengths))
    parts = np.split(ids, np.cumsum(lengths)[:-1])
    starts = torch.from_numpy(np.cumsum([0, *lengths]))
    tokens = Sequences(torch.from_numpy(ids), starts, torch.zeros(len(lengths), dtype=torch.int64))
    rows, L = list(range(len(lengths)))[::-1], max(lengths) + more
    found = pad(tokens, torch.tensor(rows), L, 7, left)
    assert found.states is None
    for at, row in enumerate(rows):
        own, room = parts[row].tolist(), L - lengths[row]
        where = slice(room, L) if left else slice(0, L - room)
        assert found.ids[at].tolist() == ([7] * room + own if left else own + [7] * room)
        assert found.real[at].tolist() == ([0] * room + [1] * len(own) if left else [1] * len(own) + [0] * room)
        assert found.positions[at, where].tolist() == list(range(len(own)))
        for causal in (True, False):
            seen = found.attention(causal)[at, 0]
            for i, j in product(range(L), range(L)):
                assert seen[i, j] == (i == j or (found.real[at, j] and (j < i or not causal)))


def test_first_weights_depend_on_the_seed_only(models: Models) -> None:
    _, net = network(models["llama"], "classifier")
    before = torch.get_rng_state()
    first = net.fresh(3)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    again = Network(Settings(models["llama"], "classifier", 2, 2, 4, 16, "cpu", False)).fresh(3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = net.fresh(4)
    for path, a, b in zip(net.slots, first, other, strict=True):
        assert bool(a.any()) is not path.endswith("up")  # LoRA begins as no change
        assert torch.equal(a, b) is path.endswith("up")


def test_what_the_files_lack_is_the_same_in_every_process(models: Models, tmp_path: Path) -> None:
    """A BERT saved without its pooler gets one, frozen under its adapters: it must not be another one every time."""
    outputs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        net = Network(Settings(models["bert"], "classifier", 2, 2, 4, 16, "cpu", False))
        outputs.append(scores(net, False, net.tokenizer.texts(["w1 w2"], 20), [0], net.fresh(0)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("blocks", [2, None])
@pytest.mark.parametrize(
    ("family", "objective"), [*product(FAMILIES, ["classifier"]), *product(["llama", "gpt2", "qwen2"], ["policy"])]
)
def test_adapters_stand_where_peft_puts_them(
    models: Models, family: str, objective: Objective, blocks: int | None
) -> None:
    """In its order, by which first weights are drawn and checkpoints are named."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    policy = objective == "policy"
    whole: Any = _load(models[family], family, objective, 2, 1, "cpu")
    layers = [name for name, m in whole.base_model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D)]
    config = LoraConfig(
        task_type="CAUSAL_LM" if policy else "SEQ_CLS",
        r=4,
        target_modules=sorted({name.rpartition(".")[2] for name in layers}) + ["lm_head"] * policy,
        layers_to_transform=None if blocks is None else list(range(DEPTH - blocks, DEPTH)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied weights
        trained = [(n, p.shape) for n, p in get_peft_model(whole, config).named_parameters() if p.requires_grad]
    shorter = {"base_model.model.": "", ".modules_to_save.default": "", "lora_A.default.weight": "down"}
    expected = []
    for name, shape in trained:
        for long, short in {**shorter, "lora_B.default.weight": "up"}.items():
            name = name.replace(long, short)
        expected.append((name, shape))
    _, net = network(models[family], objective, blocks)
    moved_up = DEPTH - (blocks or DEPTH) if net.trunk else 0  # a cut network counts its blocks from 0
    found = [re.sub(r"(?<=\.layers\.)\d+", lambda n: str(int(n[0]) + moved_up), slot) for slot in net.slots]
    assert list(zip(found, [value.shape for value in net.fresh(0)], strict=True)) == expected


@pytest.mark.parametrize("blocks", [2, None])
@pytest.mark.parametrize("family", DECODERS)
def test_adapters_of_a_policy_are_on_its_blocks_and_its_output(models: Models, family: str, blocks: int | None) -> None:
    _, net = network(models[family], "policy", blocks)
    assert net.slots[-2:] == ["lm_head.down", "lm_head.up"]
    layers = {path.split(".layers.")[-1].split(".h.")[-1].split(".")[0] for path in net.slots[:-2]}
    assert len(layers) == (blocks or DEPTH)


def logits_of(student: LanguageStudent, index: Tensor) -> Tensor:
    student.expect(index[None])
    return student.logits(index)


def step(student: LanguageStudent, replica: int) -> None:
    """One step of plain gradient descent on one replica; the others have no gradient."""
    logits = logits_of(student, torch.tensor([[[0, 2, 3]], [[0, 2, 3]]]))
    logits[replica // 2, replica % 2].pow(2).sum().backward()
    with torch.no_grad():
        for p in student.parameters():
            assert p.grad is not None
            assert not any(p.grad[other].any() for other in range(4) if other != replica)
            p -= 0.1 * p.grad
            p.grad = None


@pytest.mark.parametrize("more", [{}, {"micro_batch": 2}, {"checkpointing": True}], ids=str)
def test_a_step_of_one_replica_leaves_the_others_alone(models: Models, more: dict[str, Any]) -> None:
    kind, _ = network(models["llama"], "classifier", None, **more)
    tokens = kind.sequences(random_texts(4, np.random.default_rng(2)))
    student = kind.start([tokens, tokens], 2, (5, 6), heads=2)
    index = torch.tensor([[[0, 1, 2, 3]], [[3, 2, 1, 0]]])
    for replica in range(4):
        before = logits_of(student, index).detach()
        step(student, replica)
        after = logits_of(student, index).detach()
        same = [torch.equal(a, b) for a, b in zip(before.flatten(0, 1), after.flatten(0, 1), strict=True)]
        assert same == [other != replica for other in range(4)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_nothing_is_random_with_checkpointing(models: Models, family: str) -> None:
    """In training mode, which checkpointing wants, a model with dropout in its configuration would drop."""
    kind, net = network(models[family], "classifier", None, checkpointing=True)
    assert net.network.training
    tokens = kind.sequences(random_texts(4, np.random.default_rng(2)))
    results: list[Tensor] = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        student = kind.start([tokens], 2, (5,), heads=1)
        logits = logits_of(student, torch.tensor([[[0, 1, 2, 3]]]))
        logits.pow(2).sum().backward()
        results += [logits.detach(), *(p.grad for p in student.parameters())]
    half = len(results) // 2
    assert all(torch.equal(a, b) for a, b in zip(results[:half], results[half:], strict=True))
    plain = network(models[family], "classifier", None)[0].start([tokens], 2, (5,), heads=1)
    assert_close(results[0], logits_of(plain, torch.tensor([[[0, 1, 2, 3]]])), ROUNDINGS)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_encoder_is_no_policy(models: Models, family: str) -> None:
    with pytest.raises(W2SError, match="is an encoder; a policy needs a causal language model"):
        network(models[family], "policy")


@pytest.mark.parametrize(("family", "context"), [("gpt2", 64), ("roberta", 64), ("bert", 512)])
def test_more_tokens_than_a_model_reads(models: Models, family: str, context: int) -> None:
    kind = LanguageModel("classifier", 2, models[family], max_tokens=context)
    net = kind.network("cpu")
    tokens = kind.sequences(["w1 " * 600, "w2"])
    assert int(tokens.starts[1]) == context
    assert scores(net, False, tokens, [0, 1], net.fresh(0)).isfinite().all()
    with pytest.raises(W2SError, match=f"max_tokens={context + 1}: model '.*{family}' reads {context} tokens at most"):
        replace(kind, max_tokens=context + 1).network("cpu")


def test_replies_stop_where_the_context_does(models: Models) -> None:
    _, net = network(models["gpt2"], "policy")
    net.tokenizer.end_id, end = None, net.tokenizer.end_id
    try:
        with net.having([value[None] for value in net.fresh(0)]):
            (replies,) = net.replies([list(range(10, 70)), [12]], 20)
        assert [len(reply) for reply in replies] == [4, 4]
    finally:
        net.tokenizer.end_id = end


def test_more_blocks_than_there_are(models: Models) -> None:
    with pytest.raises(W2SError, match=f"blocks=7: model '.*llama' has {DEPTH} blocks, expected 1..{DEPTH}"):
        network(models["llama"], "policy", 7)


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "llama", "llama")
    (folder / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(W2SError, match=r"model '.*' cannot be loaded as a policy from .*no-such-thing") as refused:
        network(str(folder), "policy")
    assert "\n" not in str(refused.value)
