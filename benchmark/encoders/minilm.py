"""all-MiniLM-L6-v2, a sentence encoder of six layers, frozen."""

import functools
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmark.assets.pretrained import MINILM_CONFIG, MINILM_TOKENIZER, MINILM_WEIGHTS
from benchmark.base.errors import W2SError
from benchmark.encoders.devices import HostTables, readers, to_device

_VERSION = 2
_MAX_TOKENS = 128
_BATCH = 32  # texts, on a CPU
_WIDTHS, _TOKENS = 16, 32_768  # on a GPU: texts are padded to a multiple, and a batch has so many tokens
_BATCHES_KEPT = 50  # of features, on a GPU
_TOKENISED = 1024  # texts that a thread takes at once
_LAYERS = {"half": 3, "full": 6}


@dataclass(frozen=True)
class MiniLM:
    """Mean of the tokens' hidden states after the third and after the last layer, 384 numbers each, not normalised.

    Inputs are texts, cut at 128 tokens. Batches and padding, which are others on a GPU, change features by rounding.
    """

    name: str = "minilm"
    outputs: tuple[str, ...] = tuple(_LAYERS)

    @property
    def fingerprint(self) -> str:
        """The hashes of weights and tokenizer (checked before they are read) and a version."""
        return f"minilm-{_VERSION}-{MINILM_WEIGHTS.sha256}-{MINILM_TOKENIZER.sha256[:16]}"

    @property
    def requires(self) -> dict[str, str]:
        return {"transformers": "transformers", MINILM_WEIGHTS.module: MINILM_WEIGHTS.distribution}

    def encode(self, inputs: Sequence[str], device: str = "cpu") -> dict[str, NDArray[np.float32]]:
        """Features (n, 384) `half` and `full`.

        Raises:
            W2SError: an input is no string, or a file is not the known one.
            NotAvailable: the model's package is not installed.
        """
        if wrong := next((text for text in inputs if not isinstance(text, str)), None):
            raise W2SError(f"encoder '{self.name}': inputs hold a {type(wrong).__name__}, expected texts")
        tokenizer, network = _load(device)
        tokens = _tokens(tokenizer, list(inputs), readers(device))
        features = {output: np.empty((len(tokens), 384), np.float32) for output in self.outputs}
        tables = HostTables(list(features.values()), device, _BATCHES_KEPT)
        layers = [_LAYERS[output] for output in self.outputs]
        with torch.inference_mode():
            for rows, width in _batches([len(own) for own in tokens], device):
                padded = np.zeros((len(rows), width), np.int64)
                for i, row in zip(rows, padded, strict=True):
                    row[: len(tokens[i])] = tokens[i]
                ids = to_device(torch.from_numpy(padded), device)
                lengths = to_device(torch.tensor([len(tokens[i]) for i in rows]), device)
                mask = torch.arange(width, device=device) < lengths[:, None]
                # of a mask of another form the library asks whether all is true, and waits for the GPU's answer
                shown = mask.long() if device == "cpu" else mask[:, None, None]
                states = network(input_ids=ids, attention_mask=shown, output_hidden_states=True).hidden_states
                means = [(states[layer] * mask[..., None]).sum(1) / lengths[:, None] for layer in layers]
                tables.put(rows, means)
            tables.copy()
        return features


def _tokens(tokenizer: Any, texts: list[str], threads: int) -> list[list[int]]:
    """Token ids of each text; the tokenizer lets other threads work meanwhile."""

    def read(part: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(part)]

    if not threads:
        return read(texts)
    parts = [texts[i : i + _TOKENISED] for i in range(0, len(texts), _TOKENISED)]
    with ThreadPoolExecutor(threads, "read texts") as pool:
        return [ids for part in pool.map(read, parts) for ids in part]


def _batches(lengths: list[int], device: str) -> Iterator[tuple[list[int], int]]:
    """Positions of the texts of each batch, and the number of tokens to which they are padded.

    Texts of like length stand together, so that little is padded; ties keep the order of the inputs.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    if device == "cpu":
        parts = [order[i : i + _BATCH] for i in range(0, len(order), _BATCH)]
        yield from ((rows, lengths[rows[-1]]) for rows in parts)
        return
    for width, own in itertools.groupby(order, key=lambda i: _WIDTHS * max(1, math.ceil(lengths[i] / _WIDTHS))):
        rows, batch = list(own), _TOKENS // width
        yield from ((rows[i : i + batch], width) for i in range(0, len(rows), batch))


@functools.cache
def _load(device: str) -> tuple[Any, Any]:
    """Tokenizer and network, from the very bytes that were verified; nothing is looked up on a hub."""
    data = {pinned: pinned.read() for pinned in (MINILM_WEIGHTS, MINILM_TOKENIZER, MINILM_CONFIG)}
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer.from_str(data[MINILM_TOKENIZER].decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    with torch.random.fork_rng(devices=[]):  # its initial weights, soon overwritten, are random
        network = BertModel(BertConfig.from_dict(json.loads(data[MINILM_CONFIG])), add_pooling_layer=False)
    weights = load(data[MINILM_WEIGHTS])
    network.load_state_dict({name: weights[name] for name in network.state_dict()}, strict=True)
    network.eval().requires_grad_(False).to(device)
    if device == "cpu" and torch.backends.mkldnn.is_available():
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Linear):
                    setattr(module, name, _ByOneDNN(child))
    return tokenizer, network


class _ByOneDNN(nn.Module):
    """A linear layer by oneDNN in the place of MKL, which is slow on processors of other makers: on an AMD EPYC the
    encoder is 1.7 times as fast. Features differ by rounding."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._weight, self._bias = layer.weight.to_mkldnn(), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return linear(x.to_mkldnn(), self._weight, self._bias).to_dense()
