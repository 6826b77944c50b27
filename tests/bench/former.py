"""The step as it was (commit c1821cc), to compare with: autograd for the heads' products, one sum of all losses, and
torch's optimizer and schedule, all by Python in every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from benchmark.base.torch_seeding import torch_rng
from benchmark.core.data import Recipe
from benchmark.core.method import Batch, Method, Supervision
from benchmark.core.minibatches import Minibatches
from benchmark.core.training import TrainingData
from benchmark.students.linear import Heads, initial_head
from benchmark.students.streamed import InMemory


def _no_prediction() -> torch.Tensor:
    raise NotImplementedError("the former loop did not predict between epochs")


def former_train(methods: Sequence[Method], data: TrainingData, recipe: Recipe) -> list[Heads]:
    """Methods of one stage; classes, no pairs."""
    x, labels = data.features[data.own], data.soft_labels
    S, M, N, K = labels.shape
    stream = Minibatches(data.seeds, N, recipe.batch_size)
    total_steps = stream.steps_per_epoch * recipe.epochs
    heads = [M if method.kind == "single" else 1 for method in methods]
    for method, own in zip(methods, heads, strict=True):
        single = method.kind == "single"
        method.start(
            Supervision(
                soft_labels=labels.flatten(0, 1).unsqueeze(2) if single else labels.transpose(1, 2),
                num_classes=K,
                epochs=recipe.epochs,
                steps_per_epoch=stream.steps_per_epoch,
                total_steps=total_steps,
                generators=tuple(torch_rng(method.name, s) for s in data.seeds for _ in range(own)),
                device=labels.device,
                encoders=tuple(data.features),
            )
        )
    start = [initial_head(seed, K, x.shape[-1]) for seed in data.seeds]
    weight = nn.Parameter(torch.stack([w.repeat(sum(heads), 1) for w, _ in start]).to(labels.device))
    bias = nn.Parameter(torch.stack([b.repeat(sum(heads))[:, None] for _, b in start]).to(labels.device))
    optimizer = torch.optim.Adam([weight, bias], lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total_steps)
    source, table = InMemory(x), labels.view(S * M * N, K)
    offsets = (torch.arange(S * M, device=labels.device) * N).view(S, M, 1)
    step = 0
    for epoch in range(recipe.epochs):
        for index in stream.epoch(epoch).to(labels.device):
            step += 1
            z = torch.baddbmm(bias, weight, source.rows(index).transpose(1, 2))
            logits = z.view(S, sum(heads), K, -1).transpose(2, 3)
            given = table.index_select(0, (index + offsets).flatten()).view(S, M, -1, K)
            given = given.transpose(2, 3).contiguous().transpose(2, 3)
            total = logits.new_zeros(())
            for method, own in zip(methods, logits.split(heads, dim=1), strict=True):
                view = given.flatten(0, 1).unsqueeze(2) if method.kind == "single" else given.transpose(1, 2)
                at = index.expand(S, own.shape[1], -1).flatten(0, 1)
                own = own.flatten(0, 1) if own.stride(-1) == 1 else own.mT.flatten(0, 1).mT
                total = total + method.loss(own, Batch(view, at, epoch, step / total_steps)).mean(1).sum()
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            for method in methods:
                method.after_step()
        for method in methods:
            method.after_epoch(epoch, _no_prediction)
    weights = weight.detach().view(S, sum(heads), K, -1).split(heads, dim=1)
    biases = bias.detach().view(S, sum(heads), K).split(heads, dim=1)
    return [Heads(w, b) for w, b in zip(weights, biases, strict=True)]
