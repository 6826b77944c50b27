"""The one training loop gives the weights of plain PyTorch on the plain Hugging Face model with peft."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.rounding import assert_close, assert_trained_alike
from support.tiny import DEPTH, ROUNDINGS, Models, random_texts, soft_labels

pytest.importorskip("peft")

from benchmark.core.data import Recipe
from benchmark.core.inputs import Prompted
from benchmark.core.minibatches import Minibatches
from benchmark.core.training import TrainingData, train
from benchmark.students.language.network import Objective
from benchmark.students.language.sequences import Sequences
from benchmark.students.language.student import LanguageHeads, LanguageModel
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
    return [[p.detach() for p in r] for one in heads for own in one.replicas for r in own]  # type: ignore[attr-defined]


def by_hand(kind: LanguageModel, seed: int, targets: Tensor) -> list[Tensor]:
    """One replica, trained by a plain loop on the plain model in peft; targets (N, 2)."""
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
    start = net.fresh(seed)
    assert [p.shape for p in weights] == [p.shape for p in start]
    with torch.no_grad():
        for p, value in zip(weights, start, strict=True):
            p.copy_(value)
    tokens = tokens_of(kind, seed)
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
        student.logits(index).square().sum().backward()
        gradients.append([p.grad for p in student.parameters()])
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            assert_close(a, b, 2 * ROUNDINGS)


def test_a_micro_batch_is_all_that_is_in_memory(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = kind_of(models["llama"], "classifier", micro_batch=2)
    net, sizes = kind.network("cpu"), []
    whole = net.classify

    def counted(sequences: Sequences, rows: Tensor) -> Tensor:
        sizes.append((len(rows), torch.is_grad_enabled()))
        return whole(sequences, rows)

    monkeypatch.setattr(net, "classify", counted)
    student = kind.start([tokens_of(kind, 0)], 2, (5,), heads=1)
    logits = student.logits(torch.tensor([[[0, 3, 4, 7, 9]]]))
    assert sizes == [(2, False), (2, False), (1, False)]  # nothing is kept for the backward pass
    logits.sum().backward()
    assert sorted(size for size, kept in sizes if kept) == [1, 2, 2]
