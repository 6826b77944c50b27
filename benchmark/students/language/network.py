"""A pretrained language model with trainable adapters: what all replicas share, and one place for the weights of one.

The base model's weights are frozen and in memory once. A replica is a list of small tensors (LoRA matrices, a head);
`activate` puts one into the network.

**Trunk.** Where only the last blocks are trained, the blocks below always give the same hidden states. For models whose
blocks can be run on hidden states alone (the Llama family and its kin) they are computed once and cached, and the
network is cut: its input is the states.
"""

import contextlib
import gc
import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.assets.packages import missing_packages
from benchmark.assets.pretrained import find_model, quiet
from benchmark.base.errors import W2SError
from benchmark.base.torch_seeding import torch_rng
from benchmark.students.language.log_probability import OutputLayer, sequence_log_probs
from benchmark.students.language.sequences import Padded, Sequences, Tokenizer, load_tokenizer, pad
from benchmark.students.linear import initial_head

Objective = Literal["classifier", "reward", "policy"]


def lacking_extra() -> str | None:
    """One line when the extra is not installed."""
    lacking = missing_packages({"transformers": "transformers", "peft": "peft"})
    return lacking and f"{lacking.split(';')[0]}; run: pip install -c constraints.txt 'w2s-bench[lm]'"


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
    """A model in memory, with places for one replica's weights."""

    def __init__(self, settings: Settings) -> None:
        from transformers.models.auto import modeling_auto

        model, objective, num_classes, blocks, rank, alpha, device, checkpointing = settings
        self.device = device
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
        self.cut = self.trunk is not None
        self.network = _with_adapters(whole, objective, None if self.cut else blocks, depth, rank, alpha)
        self.network.to(device)
        if checkpointing:
            base_model = self.network.get_base_model()
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # the latter in older versions
            enable = next(getattr(base_model, name) for name in names if hasattr(base_model, name))
            enable({"use_reentrant": False})
            base_model.enable_input_require_grads()
        self.network.train(checkpointing)  # Hugging Face models checkpoint in training mode only; there is no dropout
        self._slots = [
            (self.network.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], path)
            for path, parameter in self.network.named_parameters()
            if parameter.requires_grad
        ]

    def fresh(self, seed: int) -> list[nn.Parameter]:
        """A replica's first weights, by the seed only: LoRA as published (A uniform, B zero), heads as `nn.Linear`."""
        rng, made = torch_rng("adapters", seed), []
        for module, name, path in self._slots:
            shape = getattr(module, name).shape
            if "lora_A" in path:
                bound = 1 / math.sqrt(shape[1])
                value = torch.empty(shape).uniform_(-bound, bound, generator=rng)
            elif "lora_B" in path or name == "bias":
                value = torch.zeros(shape)
            else:
                value = initial_head(seed, *shape)[0]
            made.append(nn.Parameter(value.to(self.device)))
        return made

    def activate(self, replica: list[nn.Parameter]) -> None:
        """Put a replica's weights into the network."""
        for (module, name, _), parameter in zip(self._slots, replica, strict=True):
            module._parameters[name] = parameter

    def classify(self, sequences: Sequences, rows: Tensor) -> Tensor:
        """(B, K) logits of the active replica, or (B, 1) rewards; float32."""
        batch = pad(sequences, rows, self.tokenizer.pad_id, self.left)
        given = _inputs(batch, self.left)
        if self.left and "input_ids" in given:  # by ids, the library would skip a last token that is the padding's
            given["inputs_embeds"] = self.network.get_input_embeddings()(given.pop("input_ids"))
        with self._precision():
            logits: Tensor = self.network(**given).logits
        return logits.float()

    def log_probs(self, sequences: Sequences, rows: Tensor) -> Tensor:
        """(B,) log p(reply | prompt) under the active replica; float32."""
        batch = pad(sequences, rows, self.tokenizer.pad_id, self.left)
        model: Any = self.network.get_base_model()
        with self._precision():
            hidden = model.base_model(**_inputs(batch, self.left)).last_hidden_state
        lengths = sequences.lengths(rows)
        counts = lengths - sequences.replies[rows]
        ends = torch.full_like(lengths, batch.mask.shape[1]) if self.left else lengths
        place = torch.arange(batch.mask.shape[1], device=rows.device)
        answered = (place >= (ends - counts)[:, None]) & (place < ends[:, None])
        before = answered.roll(-1, 1)  # position t predicts token t + 1; a reply never stands first
        head = model.get_output_embeddings()
        if hasattr(head, "lora_A"):
            down, up = head.lora_A["default"].weight, head.lora_B["default"].weight
            layer = OutputLayer(head.base_layer.weight, down, up, head.scaling["default"])
        else:
            layer = OutputLayer(head.weight)
        return sequence_log_probs(hidden[before], batch.ids[answered], counts.tolist(), layer)

    def replies(self, prompts: list[list[int]], most: int) -> list[list[int]]:
        """The active policy's greedy replies to prompts, as token ids: at most so many, without the end token."""
        L, end = max(map(len, prompts)), self.tokenizer.end_id
        most = min(most, self.context - L) if self.context else most
        ids = torch.tensor([[self.tokenizer.pad_id] * (L - len(p)) + p for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (L - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        model: Any = self.network.get_base_model()
        uncut = self.trunk.below() if self.trunk else contextlib.nullcontext()
        with torch.inference_mode(), self._precision(), uncut:
            own = {"max_new_tokens": most, "pad_token_id": self.tokenizer.pad_id, "eos_token_id": end}
            made = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, use_cache=True, **own)
        rows = made[:, L:].tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self.device == "cuda" else contextlib.nullcontext()


class _Trunk:
    """The blocks below the trained ones."""

    def __init__(self, base: Any, blocks: int) -> None:
        self._base, self._layers = base, base.layers[:blocks]

    def states(self, sequences: Sequences, pad_id: int, device: str, batch: int) -> Tensor:
        """(T, D) hidden states that enter the first trained block, float32 on the CPU."""
        states = torch.empty(len(sequences.ids), self._base.config.hidden_size)
        order = sequences.lengths(torch.arange(len(sequences))).argsort(stable=True)
        there = Sequences(sequences.ids, sequences.starts, sequences.replies).to(device)
        with torch.inference_mode(), self._having(self._layers, nn.Identity()):
            for rows in order.split(batch):
                padded = pad(there, rows.to(device), pad_id, left=False)
                hidden = self._base(**_inputs(padded, left=False)).last_hidden_state.float().cpu()
                for row, own in zip(rows.tolist(), hidden, strict=True):
                    start, end = int(sequences.starts[row]), int(sequences.starts[row + 1])
                    states[start:end] = own[: end - start]
        return states

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
    if lacking := lacking_extra():
        raise W2SError(lacking)
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
    given = {"attention_mask": batch.mask}
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


def _with_adapters(model: Any, objective: Objective, blocks: int | None, depth: int, rank: int, alpha: int) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D  # GPT-2's name for a linear layer

    inside = [name for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    targets = sorted({name.rpartition(".")[2] for name in inside})
    if objective == "policy":
        targets += [name for name, module in model.named_modules() if module is model.get_output_embeddings()]
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM if objective == "policy" else TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=targets,
        layers_to_transform=None if blocks is None else list(range(depth - blocks, depth)),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied weights, which only matter where adapters are merged
        return get_peft_model(model, config)
