"""A language model with LoRA as student: how it reads a pool, is trained, and predicts.

Shapes: S seeds, H heads a seed (a head is one set of adapter weights on the shared base model), B examples, K classes.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmark.assets.pretrained import describe_model, find_model, model_fingerprint
from benchmark.base.errors import W2SError
from benchmark.base.versions import libraries
from benchmark.core.data import TEST, Domain, Pool, Problem, Recipe
from benchmark.core.inputs import Prompted, concatenate, take
from benchmark.core.student import Answer, StudentKind
from benchmark.store.cache import Cache
from benchmark.students.language.network import Network, Objective, Settings, forget_networks, network
from benchmark.students.language.sequences import Sequences, load_tokenizer

_VERSION = 1
_OUTPUT = "tokens"
_BATCH = 32  # examples at a time when nothing is trained
TokenRows = list[Sequences]  # one for each seed
Replica = list[nn.Parameter]


@dataclass(frozen=True)
class LanguageModel(StudentKind):
    """A pretrained language model, frozen, with LoRA on its last blocks and its head.

    Args:
        objective: `classifier` has K logits of a text; `reward` has a scalar reward r of each response, logits
            [r(a), r(b)] (Bradley-Terry); `policy` has s = beta (log pi(y|x) - log pi_ref(y|x)), logits [s(a), s(b)],
            whose cross-entropy is DPO (Rafailov et al. 2023, arXiv:2305.18290); the reference is the untrained model.
        num_classes: K of a classifier.
        model: a packaged model's name, a hub id or a local folder.
        blocks: how many of the last blocks are trained; None for all.
        rank, alpha: of LoRA (Hu et al. 2022, arXiv:2106.09685), without dropout.
        max_tokens: of prompt and reply together.
        beta: of DPO.
        preference_loss: `soft` for all methods; `margin` lets RAVEN use the released margin form.
        micro_batch: examples whose activations are in memory at a time; gradients add up over a minibatch's parts, at
            the cost of a second forward pass. None for whole minibatches. Changes results by rounding only.
        checkpointing: recompute activations block by block; rounding only, too.
    """

    objective: Objective
    num_classes: int = 2
    model: str = "smollm2-135m"
    blocks: int | None = 2
    rank: int = 8
    alpha: int = 16
    max_tokens: int = 128
    beta: float = 0.1
    preference_loss: Literal["soft", "margin"] = "soft"
    micro_batch: int | None = None
    checkpointing: bool = False
    costly: ClassVar[bool] = True  # minutes to hours a seed

    @property
    def title(self) -> str:
        where = "all blocks" if self.blocks is None else f"the last {self.blocks} blocks"
        return f"{describe_model(self.model)}, as {self.objective}, LoRA on {where} and the head"

    @property
    def outputs(self) -> tuple[str, ...]:
        """One only: a chain for bootstrapping has two students of the same model."""
        return (_OUTPUT,)

    @property
    def at_once(self) -> int:
        """Examples in memory when nothing is trained."""
        return min(_BATCH, self.micro_batch or _BATCH)

    @property
    def pairs(self) -> bool:
        """Whether an example is a pair of responses."""
        return self.objective != "classifier"

    @property
    def fingerprint(self) -> str:
        """The model's files, what is read of a text, and a version."""
        made_of = (_VERSION, self.objective, model_fingerprint(self.model), self.max_tokens)
        return f"language-model-{hashlib.sha256(repr(made_of).encode()).hexdigest()}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All but what changes rounding only."""
        chosen: dict[str, Any] = {
            "objective": self.objective,
            "model": self.model,
            "model_description": describe_model(self.model),
            "lora_blocks": self.blocks,
            "lora_rank": self.rank,
            "lora_alpha": self.alpha,
            "max_tokens": self.max_tokens,
        }
        if self.objective == "policy":
            chosen |= {"beta": self.beta, "preference_loss": self.preference_loss}
        return chosen

    @property
    def writes(self) -> bool:
        return self.objective == "policy"

    @property
    def margin_beta(self) -> float | None:
        return self.beta if self.preference_loss == "margin" else None

    def network(self, device: str) -> Network:
        settings = Settings(
            self.model, self.objective, self.num_classes, self.blocks, self.rank, self.alpha, device, self.checkpointing
        )
        net = network(settings)
        if net.context is not None and self.max_tokens > net.context:
            raise W2SError(f"max_tokens={self.max_tokens}: model '{self.model}' reads {net.context} tokens at most")
        return net

    def sequences(self, inputs: Any) -> Sequences:
        """Token sequences of n texts, or of n pairs (first responses, second responses): 2n, side by side."""
        tokenizer = load_tokenizer(find_model(self.model).folder, self.model)
        if not self.pairs:
            texts = [t.prompt + t.reply if isinstance(t, Prompted) else t for t in inputs]
            return tokenizer.texts(texts, self.max_tokens)
        responses = (t for pair in zip(*inputs, strict=True) for t in pair)
        prompted = [t if isinstance(t, Prompted) else Prompted("", t) for t in responses]
        return tokenizer.prompted(prompted, self.max_tokens)

    def read(
        self,
        task: str,
        domains: Mapping[str, Domain],
        pool: Pool,
        cache: Cache,
        device: str,
        held_out: tuple[str, ...] = TEST,
    ) -> dict[str, dict[str, Sequences]]:
        """Splits as tokens; the trunk's states and the reference's log-probabilities from the cache."""
        inputs = concatenate([domains[name].load() for name in pool.domains])
        made = {}
        for split in ("train", *held_out):
            rows = pool.examples[split]
            tokens = self.sequences(take(inputs, rows))
            if split == "test":  # never with the train split: where an example stands in a file can tell its class
                ids = rows[:, 0].copy() if self.pairs else rows  # each response is in one pair at most
                tokens = tokens.having(examples=torch.from_numpy(ids))
            key = {
                "student": self.fingerprint,
                "blocks": self.blocks,
                "domains": [domains[name].fingerprint for name in pool.domains],
                "examples": hashlib.sha256(rows.tobytes()).hexdigest(),
                "device": device,
                "libraries": libraries("torch", "transformers"),
            }
            wanted = self.blocks is not None or self.writes
            found = cache.get("features", key, functools.partial(self._frozen, tokens, device)) if wanted else {}
            made[split] = tokens.having(**{name: torch.from_numpy(array) for name, array in found.items()})
        return {_OUTPUT: made}

    def _frozen(self, tokens: Sequences, device: str) -> dict[str, Any]:
        """What training does not change: the trunk's states (T, D) and log p (n,) under the reference."""
        made: dict[str, Any] = {}
        net = self.network(device)
        if net.trunk is not None:
            made["states"] = net.trunk.states(tokens, net.tokenizer.pad_id, device, min(16, self.at_once)).numpy()
            tokens = tokens.having(states=torch.from_numpy(made["states"]))
        if self.objective == "policy":
            net.activate(net.fresh(0))  # fresh adapters change nothing
            there = tokens.to(device)
            score = functools.partial(net.log_probs, there)
            made["reference"] = _in_batches(score, there.starts.diff(), self.at_once).cpu().numpy()
        return made

    def prepare(
        self, problems: Sequence[Problem], device: str, held_out: tuple[str, ...] = TEST
    ) -> tuple[dict[str, TokenRows], dict[str, list[TokenRows]]]:
        splits = [p.features[_OUTPUT] for p in problems]
        train = [s["train"].to(device) for s in splits]
        return {_OUTPUT: train}, {name: [[s[name].to(device)] for s in splits] for name in held_out}

    def start(self, inputs: TokenRows, num_classes: int, seeds: tuple[int, ...], heads: int) -> "LanguageStudent":
        if num_classes != self.num_classes:
            raise W2SError(f"a language model for {self.num_classes} classes was given soft labels of {num_classes}")
        return LanguageStudent(self, inputs, seeds, heads)

    def diagnostics(self, problem: Problem) -> dict[str, float]:
        """How many sequences of train and test split did not fit into `max_tokens`."""
        splits = [problem.features[_OUTPUT][name] for name in ("train", "test")]
        return {
            "truncated_prompts": float(sum(s.cut_prompts for s in splits)),
            "truncated_replies": float(sum(s.cut_replies for s in splits)),
            "sequences": float(sum(len(s) for s in splits)),
        }

    def replies(self, student: "LanguageHeads", inputs: TokenRows, count: int) -> Iterator[Answer]:
        """Greedy answers, of at most `max_tokens` tokens, to the `count` prompts with the lowest ids."""
        (own,), net = inputs, student.network
        assert own.examples is not None
        spans = [ids.tolist() for ids in own.ids.split(own.starts.diff().tolist())]
        begin, text = own.replies.tolist(), net.tokenizer.decode
        first = own.examples.argsort(stable=True)[:count].tolist()
        for r, replica in enumerate(student.replicas[0]):
            net.activate(replica)
            for rows in [first[i : i + self.at_once] for i in range(0, len(first), self.at_once)]:
                prompts = [spans[2 * i][: begin[2 * i]] for i in rows]
                for i, prompt, made in zip(rows, prompts, net.replies(prompts, self.max_tokens), strict=True):
                    one, two = (text(spans[2 * i + side][begin[2 * i + side] :]) for side in (0, 1))
                    yield Answer(r, int(own.examples[i]), text(prompt), text(made), one, two)

    def release(self) -> None:
        """Forget the network, with the adapters that were in it last."""
        forget_networks()

    def relief(self, recipe: Recipe) -> str:
        """The next smaller micro-batch; below one example, checkpointing; then shorter texts."""
        size = self.micro_batch or recipe.batch_size
        if size > 1:
            return f"run again with --set micro_batch={size // 2}: gradients add up, results stay the same"
        if not self.checkpointing:
            return "run again with --set checkpointing=true: slower, results stay the same"
        return f"run again with --set max_tokens={self.max_tokens // 2} or a smaller --set model=..."


class LanguageStudent:
    """The adapters in training; all replicas share the frozen base model, which is in memory once."""

    recordable: ClassVar[bool] = False

    def __init__(self, kind: LanguageModel, inputs: TokenRows, seeds: tuple[int, ...], heads: int) -> None:
        self._kind, self._inputs = kind, inputs
        self._network = kind.network(inputs[0].ids.device.type)
        self._replicas = [[self._network.fresh(seed) for _ in range(heads)] for seed in seeds]
        self._network.activate(self._replicas[0][0])  # whoever was in there last is gone
        self._logits: Tensor | None = None  # of the last step
        self._root = torch.zeros((), requires_grad=True)  # `checkpoint` wants an input that needs a gradient

    def parameters(self) -> list[Tensor]:
        return [p for heads in self._replicas for replica in heads for p in replica]

    def expect(self, minibatches: Tensor) -> None: ...
    def fetch(self) -> None: ...

    def close(self) -> None:
        """Let go of the last step's activations, which know this object: nobody else would."""
        self._logits = None

    def logits(self, index: Tensor) -> Tensor:
        """Logits (S, H, B, K) of the train examples `index`: (S, 1, B), or (S, H, B).

        With `micro_batch` no activations are kept: the backward pass runs part after part anew, so the loss sees the
        whole minibatch, as always, while memory holds one part of one replica.
        """
        size = self._kind.micro_batch or index.shape[-1]
        logits = []
        for s, heads in enumerate(self._replicas):
            for h, replica in enumerate(heads):
                rows = index[s, h if index.shape[1] > 1 else 0]
                logits.append(torch.cat([self._part(replica, self._inputs[s], part) for part in rows.split(size)]))
        self._logits = torch.stack(logits).view(len(self._replicas), -1, *logits[0].shape)
        return self._logits

    def gradients(self, of_logits: Tensor) -> list[Tensor]:
        """By autograd; zero where the logits do not depend on a parameter."""
        assert self._logits is not None
        self._logits.backward(of_logits)
        gradients = []
        for parameter in self.parameters():
            gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        self._logits = None
        return gradients

    def _part(self, replica: Replica, inputs: Sequences, rows: Tensor) -> Tensor:
        def score(root: Tensor) -> Tensor:  # activates its replica, so that the backward pass finds the right one
            return _score(self._kind, self._network, replica, inputs, rows)

        if self._kind.micro_batch is None and not self._kind.checkpointing:
            return score(self._root)
        logits: Tensor = checkpoint(score, self._root, use_reentrant=True)
        return logits

    def split(self, widths: list[int]) -> list["LanguageHeads"]:
        fixed = [[[nn.Parameter(p.detach(), requires_grad=False) for p in r] for r in own] for own in self._replicas]
        trained = LanguageHeads(self._kind, self._network, fixed)
        return [trained.heads(slice(end - width, end)) for width, end in zip(widths, accumulate(widths), strict=True)]


@dataclass(frozen=True)
class LanguageHeads:
    """Trained replicas, (S, H) of them."""

    kind: LanguageModel
    network: Network
    replicas: list[list[Replica]]

    def heads(self, part: slice) -> "LanguageHeads":
        return replace(self, replicas=[heads[part] for heads in self.replicas])

    def seed(self, position: int) -> "LanguageHeads":
        return replace(self, replicas=self.replicas[position : position + 1])

    def finite(self) -> bool:
        return all(bool(p.isfinite().all()) for heads in self.replicas for replica in heads for p in replica)

    def predict(self, inputs: TokenRows) -> Tensor:
        probabilities = []
        for heads, own in zip(self.replicas, inputs, strict=True):
            lengths = own.starts.diff().view(-1, 2 if self.kind.pairs else 1).sum(1)
            for replica in heads:
                score = functools.partial(_score, self.kind, self.network, replica, own)
                probabilities.append(_in_batches(score, lengths, self.kind.at_once).softmax(-1))
        return torch.stack(probabilities).view(len(self.replicas), -1, *probabilities[0].shape)


def _score(kind: LanguageModel, net: Network, replica: Replica, inputs: Sequences, rows: Tensor) -> Tensor:
    """Logits (B, K) of one replica for the examples `rows`."""
    net.activate(replica)
    if not kind.pairs:
        return net.classify(inputs, rows)
    both = (2 * rows[:, None] + torch.arange(2, device=rows.device)).flatten()
    if kind.objective == "reward":
        return net.classify(inputs, both).view(-1, 2)
    assert inputs.reference is not None
    return kind.beta * (net.log_probs(inputs, both) - inputs.reference[both]).view(-1, 2)


def _in_batches(score: Callable[[Tensor], Tensor], lengths: Tensor, size: int) -> Tensor:
    """(n, ...) scores of the rows of these lengths (n,), computed for rows of like length together."""
    order = lengths.argsort(stable=True)
    with torch.inference_mode():
        scores = torch.cat([score(rows) for rows in order.split(size)])
    return torch.empty_like(scores).index_copy_(0, order, scores)
