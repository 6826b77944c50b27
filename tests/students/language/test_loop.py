"""The one training loop gives the weights of plain PyTorch on the plain Hugging Face model with peft."""

from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.rounding import assert_close, assert_trained_alike
from support.tiny import DEPTH, ROUNDINGS, Models, random_texts, save_model, soft_labels

pytest.importorskip("peft")

from benchmark.core.data import Recipe
from benchmark.core.inputs import Prompted
from benchmark.core.minibatches import Minibatches
from benchmark.core.training import TrainingData, train
from benchmark.students.language import student as student_module
from benchmark.students.language.network import Network, Objective
from benchmark.students.language.sequences import Sequences
from benchmark.students.language.student import LanguageHeads, LanguageModel, LanguageStudent
from methods.ensemble import Ensemble
from methods.naive import Naive

RECIPE = Recipe(learning_rate=1e-3, epochs=2, batch_size=4)
N, M, SEEDS = 10, 2, (3, 8)
BETA = 0.3


def kind_of(model: str, objective: Objective, **more: Any) -> LanguageModel:
    return LanguageModel(objective, 2, model, **{"blocks": None, "rank": 3, "max_tokens": 20, "beta": BETA, **more})


def tokens_of(kind: LanguageModel, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    prompts = random_texts(N, rng)
    sides = [[Prompted(p, r) for p, r in zip(prompts, random_texts(N, rng, 5), strict=True)] for _ in range(2)]
    tokens = kind.sequences(tuple(sides) if kind.pairs else prompts)
    frozen = kind._frozen(tokens, "cpu")
    return tokens.having(**{name: torch.from_numpy(value) for name, value in frozen.items()})


def data_of(kind: LanguageModel, seeds: tuple[int, ...] = SEEDS) -> TrainingData:
    own = [tokens_of(kind, seed) for seed in seeds]
    labels = [soft_labels(np.arange(N) % 2, M, np.random.default_rng(seed)) for seed in seeds]
    return TrainingData({"tokens": own}, torch.from_numpy(np.stack(labels)), seeds, kind.start)


def trained_weights(kind: LanguageModel, data: TrainingData | None = None) -> list[list[Tensor]]:
    """Of all replicas of `ensemble`, then `naive`: seed by seed, head by head."""
    made = train([Ensemble(), Naive()], data or data_of(kind), RECIPE)
    heads = [one.student for one in made]
    assert all(isinstance(one, LanguageHeads) for one in heads)
    return [
        [value[s, h] for value in one.weights]  # type: ignore[attr-defined]
        for one in heads
        for s, h in product(*map(range, one.weights[0].shape[:2]))  # type: ignore[attr-defined]
    ]


def in_peft(kind: LanguageModel, start: list[Tensor], tokens: Sequences) -> tuple[list[Tensor], Any]:
    """A replica's weights in the plain model in peft, and a function of an example that gives its logits (2,)."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    net = kind.network("cpu")
    policy = kind.objective == "policy"
    plain: Any
    if policy:
        plain = AutoModelForCausalLM.from_pretrained(kind.model)
    else:
        plain = AutoModelForSequenceClassification.from_pretrained(
            kind.model, num_labels=2 if kind.objective == "classifier" else 1
        )
        plain.config.pad_token_id = net.tokenizer.pad_id
    blocks = [str(i) for i in range(DEPTH - (kind.blocks or DEPTH), DEPTH)]
    config = LoraConfig(
        task_type="CAUSAL_LM" if policy else "SEQ_CLS",
        r=kind.rank,
        lora_alpha=kind.alpha,
        lora_dropout=0.0,
        target_modules=rf".*\.layers\.({'|'.join(blocks)})\..*_proj" + ("|lm_head" if policy else ""),
    )
    model: Any = get_peft_model(plain, config).eval()
    weights = [p for p in model.parameters() if p.requires_grad]
    assert [p.shape for p in weights] == [p.shape for p in start]
    with torch.no_grad():
        for p, value in zip(weights, start, strict=True):
            p.copy_(value)
    spans = [tokens.ids[a:b] for a, b in zip(tokens.starts.tolist(), tokens.starts.tolist()[1:], strict=False)]

    def log_prob(i: int) -> Tensor:
        ids, begin = spans[i], int(tokens.replies[i])
        log_p = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        return log_p[begin - 1 : -1].gather(1, ids[begin:, None]).sum()

    def score(example: int) -> Tensor:
        """Logits (2,) of one example."""
        if kind.objective == "classifier":
            return model(input_ids=spans[example][None]).logits[0]
        pair = (2 * example, 2 * example + 1)
        if kind.objective == "reward":
            return torch.stack([model(input_ids=spans[i][None]).logits[0, 0] for i in pair])
        return BETA * torch.stack([log_prob(i) - reference[i] for i in pair])

    reference: list[Tensor] = []
    if policy:
        with torch.no_grad(), model.disable_adapter():
            reference = [log_prob(i) for i in range(2 * N)]
    return weights, score


def by_hand(kind: LanguageModel, seed: int, targets: Tensor) -> list[Tensor]:
    """One replica, trained by a plain loop on the plain model in peft; targets (N, 2)."""
    weights, score = in_peft(kind, kind.network("cpu").fresh(seed), tokens_of(kind, seed))
    steps = N // RECIPE.batch_size
    optimizer = torch.optim.Adam(weights, lr=RECIPE.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * RECIPE.epochs)
    stream = Minibatches((seed,), N, RECIPE.batch_size)
    for epoch in range(RECIPE.epochs):
        for minibatch in stream.epoch(epoch)[:, 0, 0]:
            losses = []
            for example in minibatch.tolist():
                a, b = score(example)
                if kind.objective == "classifier":
                    losses.append(-(targets[example] * torch.stack([a, b]).log_softmax(-1)).sum())
                else:  # Bradley-Terry, or DPO, with soft labels
                    p = targets[example, 0]
                    margin = a - b
                    losses.append(
                        -p * torch.nn.functional.logsigmoid(margin) - (1 - p) * torch.nn.functional.logsigmoid(-margin)
                    )
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
            schedule.step()
    return [p.detach() for p in weights]


def random_replicas(student: LanguageStudent) -> None:
    """Others than the first, where LoRA's B is 0."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=rng))


def with_gradients(student: LanguageStudent, index: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (R, B, K), and gradients (R, ...) of a function of them that is not the same for all replicas."""
    student.expect(index[None])
    logits = student.logits(index).flatten(0, 1)
    slopes = torch.linspace(-1, 2, logits.numel()).view_as(logits)
    return logits.detach(), list(torch.autograd.grad((logits * slopes).sum(), student.parameters()))


@pytest.mark.parametrize("bucket", [1, 32], ids=["lengths of a CPU", "of a GPU"])
@pytest.mark.parametrize(
    ("family", "blocks", "objective"),
    [
        *product(["llama"], [2, None], ["classifier", "reward", "policy"]),
        *product(["gpt2"], [2], ["classifier", "policy"]),
        *product(["bert"], [None], ["classifier", "reward"]),
    ],
)
def test_replicas_together_are_replicas_alone(
    models: Models, objective: Objective, family: str, blocks: int | None, bucket: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients of three replicas of two seeds in one pass, and of each in a pass of its own; the same
    minibatch for all replicas of a seed, or one for each."""
    kind = kind_of(models[family], objective, blocks=blocks)
    own = [tokens_of(kind, seed) for seed in SEEDS]
    monkeypatch.setattr(student_module, "_BUCKET", {"cpu": bucket})
    together = kind.start(own, 2, SEEDS, heads=3)
    random_replicas(together)
    rng = torch.Generator().manual_seed(1)
    for streams in (1, 3):
        index = torch.stack([torch.randperm(N, generator=rng)[:5] for _ in range(2 * streams)]).view(2, streams, 5)
        logits, gradients = with_gradients(together, index)
        monkeypatch.setattr(Network, "replicas_at_once", lambda *_: 1)
        apart = with_gradients(together, index)
        monkeypatch.undo()
        for a, b in zip([logits, *gradients], [apart[0], *apart[1]], strict=True):
            assert_close(a, b, 2 * ROUNDINGS)
        for r in (0, 4):
            s, h = divmod(r, 3)
            single = kind.start(own[s : s + 1], 2, SEEDS[s : s + 1], heads=1)
            with torch.no_grad():
                for p, theirs in zip(single.parameters(), together.parameters(), strict=True):
                    p.copy_(theirs[r : r + 1])
            single.expect((at := index[s : s + 1, min(h, streams - 1)][:, None])[None])
            assert_close(single.logits(at)[0, 0], logits[r], 2 * ROUNDINGS)


@pytest.mark.parametrize("blocks", [2, None])
@pytest.mark.parametrize("objective", ["classifier", "reward", "policy"])
def test_gradients_are_those_of_peft(models: Models, objective: Objective, blocks: int | None) -> None:
    kind = kind_of(models["llama"], objective, blocks=blocks)
    tokens, index = tokens_of(kind, SEEDS[0]), torch.tensor([[[2, 0, 7]]])
    student = kind.start([tokens], 2, SEEDS[:1], heads=2)
    random_replicas(student)
    logits, gradients = with_gradients(student, index)
    slopes = torch.linspace(-1, 2, logits.numel()).view_as(logits)
    for r in range(2):
        weights, score = in_peft(kind, [p[r].detach() for p in student.parameters()], tokens)
        expected = torch.stack([score(int(example)) for example in index[0, 0]])
        assert_close(logits[r], expected.detach(), ROUNDINGS, scale=max(1.0, float(logits.abs().max())))
        for own, theirs in zip(gradients, torch.autograd.grad((expected * slopes[r]).sum(), weights), strict=True):
            assert_close(own[r], theirs, 4 * ROUNDINGS)


def test_a_family_that_mixes_rows_goes_replica_by_replica(tmp_path: Path) -> None:
    kind = kind_of(str(save_model(tmp_path, "deberta")), "classifier")
    assert kind.network("cpu").replicas_at_once(10) == 1
    student = kind.start([tokens_of(kind, 0)], 2, (5,), heads=2)
    random_replicas(student)
    index = torch.tensor([[[0, 3, 4]]])
    both = with_gradients(student, index)[0]
    (heads,) = student.split([2])
    for r in range(2):
        alone = heads.heads(slice(r, r + 1)).predict([tokens_of(kind, 0)])[0, 0, index[0, 0]]
        assert_close(both[r].softmax(-1), alone, ROUNDINGS)


@pytest.mark.parametrize("blocks", [2, None])
@pytest.mark.parametrize("objective", ["classifier", "reward", "policy"])
def test_the_loop_equals_a_plain_one(models: Models, objective: Objective, blocks: int | None) -> None:
    kind = kind_of(models["llama"], objective, blocks=blocks)
    data = data_of(kind)
    found = trained_weights(kind, data)
    labels = data.soft_labels  # (S, M, N, 2)
    plan = [(s, labels[s].mean(0)) for s in range(len(SEEDS))]  # the ensemble's replicas
    plan += [(s, labels[s, m]) for s in range(len(SEEDS)) for m in range(M)]  # naive's
    assert len(found) == len(plan)
    chosen = {0, 1, 4} if blocks else {5}  # the rest would only take time
    for position, (s, targets) in enumerate(plan):
        if position in chosen:
            start = kind.network("cpu").fresh(SEEDS[s])
            assert_trained_alike(found[position], by_hand(kind, SEEDS[s], targets), start, 2 * ROUNDINGS)


@pytest.mark.parametrize(
    "more",
    [{"micro_batch": 1}, {"micro_batch": 3}, {"checkpointing": True}, {"micro_batch": 2, "checkpointing": True}],
    ids=str,
)
@pytest.mark.parametrize("objective", ["classifier", "policy"])
def test_what_saves_memory_changes_nothing(models: Models, objective: Objective, more: dict[str, Any]) -> None:
    blocks = 2 if objective == "policy" else None
    kind = kind_of(models["llama"], objective, blocks=blocks)
    data = data_of(kind, SEEDS[:1])
    sparing = replace(kind, **more)
    expected = trained_weights(kind, data)
    found = trained_weights(sparing, replace(data, student=sparing.start))
    for replica, other in zip(found, expected, strict=True):
        assert_trained_alike(replica, other, kind.network("cpu").fresh(SEEDS[0]), 2 * ROUNDINGS)


def test_gradients_of_parts_add_up(models: Models) -> None:
    """One step, before Adam's division makes rounding large."""
    kind = kind_of(models["gpt2"], "classifier")
    tokens, index = tokens_of(kind, 0), torch.tensor([[[0, 3, 4, 7, 9]]])
    gradients = []
    for more in ({}, {"micro_batch": 2}, {"checkpointing": True}):
        student = replace(kind, **more).start([tokens], 2, (5,), heads=2)
        student.expect(index[None])
        student.logits(index).square().sum().backward()
        gradients.append([p.grad for p in student.parameters()])
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            assert_close(a, b, 2 * ROUNDINGS)


@pytest.mark.parametrize(
    ("more", "forwards", "alive"),
    [({}, 1, 5 * DEPTH), ({"micro_batch": 2}, 2, 2 * DEPTH), ({"checkpointing": True}, 2, 5)],
    ids=str,
)
def test_how_often_is_computed_and_what_is_in_memory(
    models: Models, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], forwards: int, alive: int
) -> None:
    """Of a block's activations, counted in examples of all replicas: whole minibatches, parts, or single blocks."""
    kind = kind_of(models["llama"], "classifier", **more)
    held: list[weakref.ref[Tensor]] = []
    computed, most = 0, 0

    def looked(module: Any, given: Any, made: Tensor) -> None:
        nonlocal computed, most
        computed += len(made)
        held.append(weakref.ref(made))
        most = max(most, sum(len(own) for ref in held if (own := ref()) is not None))

    student = kind.start([tokens_of(kind, 0)], 2, (5,), heads=3)
    hooks = [block.mlp.act_fn.register_forward_hook(looked) for block in kind.network("cpu").network.model.layers]
    index = torch.tensor([[[0, 3, 4, 7, 9]]])
    student.expect(index[None])
    student.logits(index).sum().backward()
    for hook in hooks:
        hook.remove()
    assert computed == forwards * 3 * 5 * DEPTH
    assert most <= 3 * alive
