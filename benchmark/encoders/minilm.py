"""all-MiniLM-L6-v2, a sentence encoder of six layers, frozen."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from benchmark.assets.pretrained import MINILM_CONFIG, MINILM_TOKENIZER, MINILM_WEIGHTS
from benchmark.base.errors import W2SError

_VERSION = 1
_MAX_TOKENS = 128
_BATCH = 32
_LAYERS = {"half": 3, "full": 6}


@dataclass(frozen=True)
class MiniLM:
    """Mean of the tokens' hidden states after the third and after the last layer, 384 numbers each, not normalised.

    Inputs are texts, cut at 128 tokens.
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
        tokens = [encoding.ids for encoding in tokenizer.encode_batch(list(inputs))]
        # texts of like length stand together, so that little is padded; ties keep the order of the inputs
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        features = {output: np.empty((len(tokens), 384), np.float32) for output in self.outputs}
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                ids = pad_sequence([torch.tensor(tokens[i]) for i in rows], batch_first=True).to(device)
                lengths = torch.tensor([len(tokens[i]) for i in rows], device=device)
                mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
                states = network(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
                for output, layer in _LAYERS.items():
                    features[output][rows] = ((states[layer] * mask[..., None]).sum(1) / lengths[:, None]).cpu().numpy()
        return features


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
    return tokenizer, network.eval().requires_grad_(False).to(device)
