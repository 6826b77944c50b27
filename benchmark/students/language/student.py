"""A language model with LoRA as student: how it reads a pool, is trained, and predicts.

Shapes: S seeds, H heads a seed (a head is one set of adapter weights on the shared base model), B examples, K classes.
"""

import functools
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, repeat
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmark.assets.pretrained import describe_model, find_model, model_fingerprint
from benchmark.base.errors import W2SError
from benchmark.base.versions import libraries
from benchmark.core.abilities import Answer
from benchmark.core.data import TEST, Domain, Pool, Problem, Recipe
from benchmark.core.inputs import Prompted, concatenate, take
from benchmark.core.student import StudentKind
from benchmark.store.cache import Cache
from benchmark.students.language.network import Network, Objective, Settings, forget_networks, network
from benchmark.students.language.sequences import Extent, Lengths, Sequences, joined, load_tokenizer

_VERSION = 1
_OUTPUT = "tokens"
_BATCH = 32  # examples at a time when nothing is trained
_BUCKET = {"cuda": 32}  # lengths of minibatches are multiples of it, so that a GPU sees few shapes
TokenRows = list[Sequences]  # one for each seed


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
        micro_batch: examples whose activations are in memory at a time, those of all replicas; gradients add up over a
            minibatch's parts, at the cost of a second forward pass. None for whole minibatches. Changes results by
            rounding only.
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
    def sides(self) -> int:
        """Sequences of an example."""
        return 2 if self.pairs else 1

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
        for split in dict.fromkeys(("train", *held_out)):
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
            there, lengths = tokens.to(device), Lengths(tokens)

            def score(rows: Tensor) -> Tensor:
                (extent,) = lengths.extents(rows[None, None])
                return net.log_probs(there, rows[None].to(device), extent)[0]

            with net.having([value[None] for value in net.fresh(0)]):  # fresh adapters change nothing
                made["reference"] = _in_batches(score, lengths.whole, self.at_once).cpu().numpy()
        return made

    def prepare(
        self, problems: Sequence[Problem], device: str, held_out: tuple[str, ...] = TEST
    ) -> tuple[dict[str, TokenRows], dict[str, list[TokenRows]]]:
        splits = [p.features[_OUTPUT] for p in problems]
        train = [s["train"].to(device) for s in splits]

        def own(s: int, split: str) -> TokenRows:
            return [train[s] if split == "train" else splits[s][split].to(device)]

        return {_OUTPUT: train}, {split: [own(s, split) for s in range(len(splits))] for split in held_out}

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
        ids, starts, begin = own.ids.tolist(), own.starts.tolist(), own.replies.tolist()
        examples, text = own.examples.tolist(), net.tokenizer.decode
        first = sorted(range(len(examples)), key=examples.__getitem__)[:count]
        prompts = [ids[starts[2 * i] : starts[2 * i] + begin[2 * i]] for i in first]
        written: list[list[list[int]]] = []  # by replica
        for weights in _parts([value[0] for value in student.weights], net.replicas_at_once(self.at_once)):
            parts = []
            for i in range(0, len(first), self.at_once):
                with net.having(weights):
                    parts.append(net.replies(prompts[i : i + self.at_once], self.max_tokens))
            written += [list(chain.from_iterable(replica)) for replica in zip(*parts, strict=True)]
        for r, made in enumerate(written):
            for i, prompt, reply in zip(first, prompts, made, strict=True):
                given = (ids[starts[n] + begin[n] : starts[n + 1]] for n in (2 * i, 2 * i + 1))
                yield Answer(r, examples[i], text(prompt), text(reply), *map(text, given))

    def release(self) -> None:
        """Forget the network."""
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
    """The adapters in training; all replicas share the frozen base model, which is in memory once, and are computed in
    one pass. R = S * H replicas, seed after seed."""

    recordable: ClassVar[bool] = False

    def __init__(self, kind: LanguageModel, inputs: TokenRows, seeds: tuple[int, ...], heads: int) -> None:
        self._kind, self._shape, self._inputs = kind, (len(seeds), heads), joined(inputs)
        device = self._inputs.ids.device.type
        self._network, self._bucket = kind.network(device), _BUCKET.get(device, 1)
        fresh = zip(*map(self._network.fresh, seeds), strict=True)
        self._weights = [nn.Parameter(torch.stack(own).repeat_interleave(heads, 0)) for own in fresh]
        begins = torch.tensor([0, *accumulate(map(len, inputs))][:-1]).view(-1, 1, 1)
        self._begins, self._begins_there = begins, begins.to(self._inputs.ids.device)  # of each seed's sequences
        self._lengths = Lengths(self._inputs)
        self._expected: deque[Extent] = deque()
        self._of_step: Tensor | None = None  # logits, with what their gradient needs

    def parameters(self) -> list[Tensor]:
        return list(self._weights)

    def expect(self, minibatches: Tensor) -> None:
        rows = self._rows(minibatches, self._begins)
        self._expected += self._lengths.extents(rows.flatten(1, 2), self._bucket)

    def fetch(self) -> None: ...

    def close(self) -> None:
        """Let go of the last step's activations."""
        self._of_step = None

    def logits(self, index: Tensor) -> Tensor:
        """Logits (S, H, B, K) of the train examples `index`: (S, 1, B), or (S, H, B); the next that were expected.

        With `micro_batch` no activations are kept: the backward pass runs part after part anew, so the loss sees the
        whole minibatch, as always, while memory holds one part.
        """
        rows = self._rows(index, self._begins_there)
        if rows.shape[:2] != (1, 1):  # not the same for all replicas
            rows = rows.expand(*self._shape, -1)
        extent = self._expected.popleft()
        logits = _logits(self._kind, self._network, self._weights, self._inputs, rows.flatten(0, 1), extent)
        self._of_step = logits.view(*self._shape, *logits.shape[1:])
        return self._of_step

    def gradients(self, of_logits: Tensor) -> list[Tensor]:
        """By autograd; zero where the logits do not depend on a parameter."""
        assert self._of_step is not None
        logits, self._of_step = self._of_step, None
        return list(torch.autograd.grad(logits, self._weights, of_logits, allow_unused=True, materialize_grads=True))

    def _rows(self, index: Tensor, begins: Tensor) -> Tensor:
        """Which of all seeds' sequences the examples of each seed are: (..., S, H, B) to (..., S, H, n)."""
        sides = self._kind.sides
        return begins + (sides * index[..., None] + torch.arange(sides, device=index.device)).flatten(-2)

    def split(self, widths: list[int]) -> list["LanguageHeads"]:
        fixed = [value.detach().unflatten(0, self._shape) for value in self._weights]
        trained = LanguageHeads(self._kind, self._network, fixed)
        return [trained.heads(slice(end - width, end)) for width, end in zip(widths, accumulate(widths), strict=True)]


@dataclass(frozen=True)
class LanguageHeads:
    """Trained replicas: the tensors of which one consists, each (S, H, ...)."""

    kind: LanguageModel
    network: Network
    weights: list[Tensor]

    def heads(self, part: slice) -> "LanguageHeads":
        return replace(self, weights=[value[:, part] for value in self.weights])

    def seed(self, position: int) -> "LanguageHeads":
        return replace(self, weights=[value[position : position + 1] for value in self.weights])

    def finite(self) -> bool:
        return bool(torch.stack([value.isfinite().all() for value in self.weights]).all())

    def predict(self, inputs: TokenRows) -> Tensor:
        return torch.stack([self._predicted(s, own) for s, own in enumerate(inputs)])

    def classes(self, inputs: TokenRows) -> Tensor:
        return self.predict(inputs).argmax(-1)

    def _predicted(self, seed: int, inputs: Sequences) -> Tensor:
        """Probabilities (H, N, K) of one seed's replicas."""
        lengths, sides = Lengths(inputs), self.kind.sides
        weights = [value[seed] for value in self.weights]

        def score(examples: Tensor) -> Tensor:
            rows = (sides * examples[:, None] + torch.arange(sides)).view(1, -1)
            (extent,) = lengths.extents(rows[None])
            rows = rows.to(inputs.ids.device)
            return _logits(self.kind, self.network, weights, inputs, rows, extent).transpose(0, 1)

        whole = lengths.whole.view(-1, sides).sum(1)
        return _in_batches(score, whole, self.kind.at_once).softmax(-1).transpose(0, 1)


def _logits(
    kind: LanguageModel, net: Network, weights: Sequence[Tensor], inputs: Sequences, rows: Tensor, extent: Extent
) -> Tensor:
    """Logits (R, B, K) of replicas for the examples whose sequences are `rows`: (R, n), or (1, n) for all."""
    n, logits = rows.shape[1], []
    size = n if kind.micro_batch is None else kind.micro_batch * kind.sides
    anew = torch.is_grad_enabled() and kind.micro_batch is not None
    together = net.replicas_at_once(n * extent.positions)
    seen = rows.split(together) if len(rows) > 1 else repeat(rows)
    for own, of_own in zip(_parts(weights, together), seen, strict=False):
        score = functools.partial(_score, kind, net, own, inputs)
        if anew:
            score = functools.partial(checkpoint, score, use_reentrant=False, preserve_rng_state=False)
        parts = [slice(i, i + size) for i in range(0, n, size)]
        logits.append(torch.cat([score(of_own[:, part], extent.part(part)) for part in parts], dim=1))
    return torch.cat(logits)


def _parts(weights: Sequence[Tensor], together: int) -> Iterator[tuple[Tensor, ...]]:
    """The weights of R replicas, so many replicas at a time."""
    return zip(*(value.split(min(together, len(value))) for value in weights), strict=True)


def _score(
    kind: LanguageModel, net: Network, weights: Sequence[Tensor], inputs: Sequences, rows: Tensor, extent: Extent
) -> Tensor:
    """As `_logits`, in one pass."""
    with net.having(weights):
        if kind.objective == "classifier":
            return net.classify(inputs, rows, extent)
        if kind.objective == "reward":
            scores = net.classify(inputs, rows, extent)[..., 0]
        else:
            assert inputs.reference is not None
            scores = kind.beta * (net.log_probs(inputs, rows, extent) - inputs.reference[rows])
    return scores.view(len(scores), -1, 2)


def _in_batches(score: Callable[[Tensor], Tensor], lengths: Tensor, size: int) -> Tensor:
    """(N, ...) scores of what has these lengths (N,) on the host, computed for rows of like length together."""
    order = lengths.argsort(stable=True)
    with torch.inference_mode():
        scores = torch.cat([score(rows) for rows in order.split(size)])
    # made outside, so that methods may write to it and take gradients of what they make of it
    return torch.empty_like(scores).index_copy_(0, order.to(scores.device), scores)
