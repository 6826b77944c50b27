"""A pretrained language model with trainable adapters: what all replicas share, and places for the replicas' weights.

The base model's weights are frozen and in memory once. A replica is a list of small tensors (LoRA matrices, a head); R
replicas are a list of the same tensors with a leading dimension R, and `having` puts them into the network.

**No waiting.** What is computed with gradients never asks a GPU for a value: how long sequences are the host knows
(`Extent`), and attention masks are made here (the library's own ask whether there is any padding).

**Trunk.** Where only the last blocks are trained, the blocks below always give the same hidden states. For models whose
blocks can be run on hidden states alone (the Llama family and its kin) they are computed once and cached, and the
network is cut: its input is the states.
"""

import contextlib
import gc
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.assets.pretrained import find_model, quiet
from benchmark.base.errors import W2SError
from benchmark.base.torch_seeding import torch_rng
from benchmark.students.language.adapters import adapt
from benchmark.students.language.log_probability import OutputLayer, alike, sequence_log_probs
from benchmark.students.language.sequences import Extent, Padded, Sequences, Tokenizer, load_tokenizer, pad

Objective = Literal["classifier", "reward", "policy"]
_TOKENS = 2_048  # of all replicas that share a pass on a CPU; with 12,000 a step of a 135M shape takes 8% longer


class Settings(NamedTuple):
    """What a network is made by, as `LanguageModel` has it. On a GPU the base is bfloat16, adapters are float32."""

    model: str
    objective: Objective
    num_classes: int
    blocks: int | None
    rank: int
    alpha: int
    device: str
    checkpointing: bool


class Network:
    """A model in memory, with places for the weights of replicas.

    Attributes:
        left: whether sequences are padded on the left.
        context: how many tokens the model reads at most, where it says so.
        trunk: the blocks below the trained ones, where the network is cut.
        slots: what the tensors of a replica are called.
    """

    def __init__(self, settings: Settings) -> None:
        from transformers.models.auto import modeling_auto

        model, objective, num_classes, blocks, rank, alpha, device, checkpointing = settings
        folder = find_model(model).folder
        self.tokenizer: Tokenizer = load_tokenizer(folder, model)
        whole: Any = _load(folder, model, objective, num_classes, self.tokenizer.pad_id, device)
        depth: int = whole.config.num_hidden_layers
        if blocks is not None and not 1 <= blocks <= depth:
            raise W2SError(f"blocks={blocks}: model '{model}' has {depth} blocks, expected 1..{depth}")
        # causal models look back: the last position is always the last token
        self.left = whole.config.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if objective == "policy" and not self.left:
            raise W2SError(f"model '{model}' is an encoder; a policy needs a causal language model (GPT, Llama, ...)")
        self.context = _context(whole)
        base = whole.base_model
        self.trunk: _Trunk | None = None
        if blocks is not None and blocks < depth and self.left and _can_be_cut(base):
            self.trunk = _Trunk(base, depth - blocks)
            _set_blocks(base, base.layers[depth - blocks :], base.norm)
        self.network = whole
        trained = None if blocks is None or self.trunk is not None else range(depth - blocks, depth)
        adapted = adapt(whole, objective == "policy", trained, rank, alpha)
        self._places = list(adapted.values())
        self.slots = [f"{path}.{name}" for path, place in adapted.items() for name in place.names]
        self._active: Sequence[Tensor] = []
        self.device, self._window, self._apart = "cpu", 0, True
        self._window, self._apart = _tried(self, self.log_probs if objective == "policy" else self.classify)
        if checkpointing:
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # the latter in older versions
            enable = next(getattr(whole, name) for name in names if hasattr(whole, name))
            enable({"use_reentrant": False, "preserve_rng_state": False, "context_fn": self._recomputing})
            whole.disable_input_require_grads()  # blocks below the trained ones need no gradient
        whole.train(checkpointing)  # Hugging Face models checkpoint in training mode only; there is no dropout
        self.device = device
        whole.to(device)
        if self.trunk is not None:
            self.trunk.to(device)

    def replicas_at_once(self, tokens: int) -> int:
        """How many replicas with so many tokens each share a pass: all on a GPU, where launches cost more than work;
        few on a CPU, whose caches are small; one where a family mixes rows."""
        if self._apart:
            return 1
        return max(1, _TOKENS // tokens) if self.device == "cpu" else sys.maxsize

    def fresh(self, seed: int) -> list[Tensor]:
        """A replica's first weights, by the seed only: LoRA as published (A uniform, B zero), heads as `nn.Linear`."""
        rng = torch_rng("adapters", seed)
        return [value.to(self.device) for place in self._places for value in place.fresh(seed, rng)]

    @contextlib.contextmanager
    def having(self, replicas: Sequence[Tensor]) -> Iterator[None]:
        """With the weights of R replicas, each (R, ...), in the network; before and after, it holds others or none."""
        before = self._active
        self._put(replicas)
        try:
            yield
        finally:
            self._put(before)

    def _put(self, replicas: Sequence[Tensor]) -> None:
        self._active, rest = replicas, iter(replicas)
        for place in self._places:
            place.weights = tuple(itertools.islice(rest, len(place.names)))

    def _recomputing(self) -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
        """Around a block's forward pass, and around its recomputation, which needs the replicas of now."""
        return contextlib.nullcontext(), self.having(self._active)

    def classify(self, sequences: Sequences, rows: Tensor, extent: Extent) -> Tensor:
        """(R, n, K) logits of the active replicas, or (R, n, 1) rewards; float32. rows: (R, n), or (1, n) for all."""
        batch = self._padded(sequences, rows, extent)
        given = self._given(batch)
        if self.left and "input_ids" in given:  # by ids, the library would skip a last token that is the padding's
            given["inputs_embeds"] = self.network.get_input_embeddings()(given.pop("input_ids"))
        with self._precision():
            logits: Tensor = self.network(**given).logits
        return logits.float().view(-1, rows.shape[1], logits.shape[-1])

    def log_probs(self, sequences: Sequences, rows: Tensor, extent: Extent) -> Tensor:
        """(R, n) log p(reply | prompt) under the active replicas; float32. rows: (R, n), or (1, n) for all."""
        batch = self._padded(sequences, rows, extent)
        with self._precision():
            hidden = self.network.base_model(**self._given(batch)).last_hidden_state
        L, R, head = batch.ids.shape[1], len(self._active[0]), self.network.get_output_embeddings()
        replies = sequences.starts[rows + 1] - sequences.starts[rows] - sequences.replies[rows]
        answered = torch.arange(L, 0, -1, device=rows.device) <= replies[..., None]  # they end at the last position

        def last(of_all: Tensor, before: int = 0) -> Tensor:
            """(R, T, ...) positions where a reply may stand, or those before them, of (R * n, L, ...)."""
            own = of_all.unflatten(0, (R, -1))
            groups = alike(extent.replies)
            parts = [own[:, some, L - A - before : L - before].flatten(1, 2) for some, _, (_, A) in groups]
            return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

        down, up = head.weights
        layer = OutputLayer(head.weight, down, up, head.scale)
        there = last(answered.expand(R, -1, -1).flatten(0, 1))
        # position t predicts token t + 1; a reply never stands first
        return sequence_log_probs(last(hidden, before=1), last(batch.ids), there, extent.replies, layer)

    def _padded(self, sequences: Sequences, rows: Tensor, extent: Extent) -> Padded:
        """Replica after replica; what all replicas see is gathered once."""
        batch = pad(sequences, rows.flatten(), extent.positions, self.tokenizer.pad_id, self.left)
        return batch.repeated(len(self._active[0]) // len(rows))

    def _given(self, batch: Padded) -> dict[str, Tensor]:
        """What the model is called with."""
        given = _inputs(batch, self.left)
        if batch.ids.shape[1] <= self._window:
            given["attention_mask"] = batch.attention(causal=self.left)
        return given

    def replies(self, prompts: list[list[int]], most: int) -> list[list[list[int]]]:
        """Each active policy's greedy replies to prompts, as token ids: at most so many, without the end token."""
        L, end, R = max(map(len, prompts)), self.tokenizer.end_id, len(self._active[0])
        most = min(most, self.context - L) if self.context else most
        ids = torch.tensor([[self.tokenizer.pad_id] * (L - len(p)) + p for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (L - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        uncut = self.trunk.below() if self.trunk else contextlib.nullcontext()
        with torch.inference_mode(), self._precision(), uncut, self._evaluating():
            own = {"max_new_tokens": most, "pad_token_id": self.tokenizer.pad_id, "eos_token_id": end}
            made = self.network.generate(
                input_ids=ids.repeat(R, 1), attention_mask=mask.repeat(R, 1), do_sample=False, use_cache=True, **own
            )
        rows = [row[: row.index(end)] if end in row else row for row in made[:, L:].tolist()]
        return [rows[i : i + len(prompts)] for i in range(0, len(rows), len(prompts))]

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """In training mode a model with checkpointing would write without a cache of what it has read."""
        before = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(before)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self.device == "cuda" else contextlib.nullcontext()


class _Trunk:
    """The blocks below the trained ones."""

    def __init__(self, base: Any, blocks: int) -> None:
        self._base, self._layers = base, base.layers[:blocks]

    def states(self, sequences: Sequences, pad_id: int, device: str, batch: int) -> Tensor:
        """(T, D) hidden states that enter the first trained block, float32 on the CPU."""
        states = torch.empty(len(sequences.ids), self._base.config.hidden_size)
        lengths = sequences.starts.diff()
        order = lengths.argsort(stable=True)
        there = Sequences(sequences.ids, sequences.starts, sequences.replies).to(device)
        with torch.inference_mode(), self._having(self._layers, nn.Identity()):
            for rows in order.split(batch):
                padded = pad(there, rows.to(device), int(lengths[rows].max()), pad_id, left=False)
                hidden = self._base(**_inputs(padded, left=False)).last_hidden_state.float().cpu()
                for row, own in zip(rows.tolist(), hidden, strict=True):
                    start, end = int(sequences.starts[row]), int(sequences.starts[row + 1])
                    states[start:end] = own[: end - start]
        return states

    def to(self, device: str) -> None:
        """Move the blocks, of which the model that was cut no longer knows."""
        self._layers.to(device)

    def below(self) -> contextlib.AbstractContextManager[None]:
        """The whole model again: the trunk's blocks below the trained ones."""
        return self._having(nn.ModuleList([*self._layers, *self._base.layers]), self._base.norm)

    @contextlib.contextmanager
    def _having(self, layers: nn.ModuleList, norm: nn.Module) -> Iterator[None]:
        """The base with these blocks and this last norm for a while."""
        kept = self._base.layers, self._base.norm
        _set_blocks(self._base, layers, norm)
        try:
            yield
        finally:
            _set_blocks(self._base, *kept)


def _set_blocks(base: Any, layers: nn.ModuleList, norm: nn.Module) -> None:
    base.layers, base.norm, base.config.num_hidden_layers = layers, norm, len(layers)


_held: dict[Settings, Network] = {}  # one at most


def network(settings: Settings) -> Network:
    """The network of these settings. The last one stays in memory, since a unit's stages share it; it makes room before
    another is loaded, so that there are never two."""
    if settings not in _held:
        forget_networks()
        _held[settings] = Network(settings)
    return _held[settings]


def forget_networks() -> None:
    """Free the memory of the network that is held."""
    _held.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _inputs(batch: Padded, left: bool) -> dict[str, Tensor]:
    given = {"attention_mask": batch.real.long()}
    if left:  # padded on the right, a model's own count is right, and families differ in where it begins
        given["position_ids"] = batch.positions
    if batch.states is not None:
        return {"inputs_embeds": batch.states, **given}
    return {"input_ids": batch.ids, **given}


def _load(folder: Any, name: str, objective: Objective, num_classes: int, pad_id: int, device: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    quiet()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    own = {"local_files_only": True, "trust_remote_code": False}  # no code from the folder, nothing from a hub
    try:
        config = AutoConfig.from_pretrained(folder, **own)
        config.pad_token_id, config.use_cache = pad_id, False
        for option, value in config.to_dict().items():
            if "drop" in option and isinstance(value, float):  # dropout, resid_pdrop, layerdrop, ...
                setattr(config, option, 0.0)  # a step shall depend on weights and minibatch only
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # what the files lack is random: a head, which is soon replaced; or a pooler
            kind: Any = AutoModelForCausalLM
            if objective != "policy":
                kind = AutoModelForSequenceClassification
                config.num_labels = num_classes if objective == "classifier" else 1
            model = kind.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True, **own)
    except Exception as error:  # whatever the library raises on an unfit folder
        reason = " ".join(str(error).split())[:300]
        raise W2SError(f"model '{name}' cannot be loaded as a {objective} from {folder}: {reason}") from error
    return model.requires_grad_(False).eval()


def _context(model: Any) -> int | None:
    """How many tokens the model can read, where it says so."""
    most: int | None = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None and most:
            return int(most - module.padding_idx - 1)  # RoBERTa counts from there
    return most


def _can_be_cut(base: Any) -> bool:
    """Whether blocks may be run on hidden states given as embeddings; tried, since families differ in what they add."""
    parts = {"layers": nn.ModuleList, "norm": nn.Module}
    if not all(isinstance(getattr(base, name, None), kind) for name, kind in parts.items()):
        return False
    if len(set(getattr(base.config, "layer_types", None) or ())) > 1:
        return False  # blocks are told apart by position, which a cut would change
    device = next(base.parameters()).device
    ids = torch.arange(2, 12, device=device)[None] % base.config.vocab_size
    given = {"attention_mask": torch.ones_like(ids), "position_ids": torch.arange(10, device=device)[None]}
    with torch.inference_mode():
        embedded = base.get_input_embeddings()(ids)
        a = base(input_ids=ids, **given).last_hidden_state
        b = base(inputs_embeds=embedded, **given).last_hidden_state
        scaled = base(inputs_embeds=2 * embedded, **given, output_hidden_states=True).hidden_states[0]
    return bool(torch.allclose(a, b, atol=1e-4)) and bool(torch.equal(scaled, 2 * embedded))


def _tried(net: Network, score: Callable[[Sequences, Tensor, Extent], Tensor]) -> tuple[int, bool]:
    """Up to how many positions masks may be made here, and whether replicas must be computed apart: tried on a batch
    with padding and two random replicas, since families differ in what they do with masks and with rows."""
    rng, config, L = torch.Generator().manual_seed(0), net.network.config, 10
    starts = torch.tensor([0, L, L + 7, L + 7 + 5])
    ids, rows = torch.arange(2, 2 + int(starts[-1])) % config.vocab_size, torch.tensor([[0, 1, 2]])
    states = torch.randn(len(ids), config.hidden_size, generator=rng) if net.trunk else None
    texts = Sequences(ids, starts, torch.tensor([4, 4, 4]), states)
    fresh = [torch.stack(own) for own in zip(net.fresh(0), net.fresh(1), strict=True)]
    both = [own + 0.1 * torch.randn(own.shape, generator=rng) for own in fresh]
    given: set[int] = set()

    def found(replicas: slice, window: int) -> Tensor:
        net._window = window
        with torch.inference_mode(), net.having([own[replicas] for own in both]):
            return score(texts, rows, Extent(L, [6, 3, 1]))

    def equal(window: int) -> bool:
        with contextlib.suppress(Exception):  # whatever a family raises on a mask, or rows, that it does not expect
            return bool((found(slice(None), window) - alone).abs().max() < tolerance * alone.diff(dim=0).abs().max())
        return False

    alone = torch.cat([found(slice(0, 1), 0), found(slice(1, 2), 0)])
    tolerance = 1e-3 if next(net.network.parameters()).dtype == torch.float32 else 0.1
    looks = [place.register_forward_pre_hook(lambda _, x: given.add(len(x[0]))) for place in net._places]
    window = _alike(config)
    window, apart = (window, False) if equal(window) else (0, not equal(0))
    for look in looks:
        look.remove()
    sequences = 2 * rows.shape[1]  # a layer that is given anything else mixes replicas, such as embeddings of distances
    return window, apart or not given <= {sequences, sequences * L}


def _alike(config: Any) -> int:
    """Up to how many positions all blocks have one and the same mask, of true and false."""
    kinds, window = set(getattr(config, "layer_types", None) or ()), getattr(config, "sliding_window", None)
    if getattr(config, "_attn_implementation", None) != "sdpa" or kinds - {"full_attention", "sliding_attention"}:
        return 0
    return window or (0 if "sliding_attention" in kinds else sys.maxsize)
