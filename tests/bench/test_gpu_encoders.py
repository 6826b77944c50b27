"""Encoders on a GPU: inputs a second as they work now, and as they did (float32 shipped, features copied to the host
after every batch), in turns.

Measured where there is a GPU (`make bench`, `make gpu-check`) with random weights of the encoders' shapes, as the real
ones are large; tried on tiny sizes on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from measuring import timed
from torch.nn.functional import interpolate
from torch.nn.utils.rnn import pad_sequence

from benchmark.encoders import efficientnet, minilm
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.encoders.minilm import MiniLM
from support.fake_cuda import PinnedMemory

Features = dict[str, np.ndarray]
Way = Callable[[Any, str], Features]
ROUNDS = 3
WORDS = [f"word{i}" for i in range(900)]


def minilm_before(texts: list[str], device: str) -> Features:
    tokenizer, network = minilm._load(device)
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    found = {"half": np.empty((len(texts), 384), np.float32), "full": np.empty((len(texts), 384), np.float32)}
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            ids = pad_sequence([torch.tensor(tokens[i]) for i in rows], batch_first=True).to(device)
            lengths = torch.tensor([len(tokens[i]) for i in rows], device=device)
            mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
            states = network(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
            for output, layer in (("half", 3), ("full", 6)):
                found[output][rows] = ((states[layer] * mask[..., None]).sum(1) / lengths[:, None]).cpu().numpy()
    return found


def efficientnet_before(images: np.ndarray, device: str) -> Features:
    network, batch = efficientnet._network(224, device), 20_000_000 // 224**2
    found: dict[str, list[np.ndarray]] = {"half": [], "full": []}
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        for start in range(0, len(images), batch):
            x = torch.from_numpy(images[start : start + batch])[:, None]
            x = interpolate(x, (224, 224), mode="bilinear", antialias=True)
            x = ((x.float() - 127) / 128).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last).to(device)
            for output, pooled in zip(("half", "full"), efficientnet._pools(network, x), strict=True):
                found[output].append(pooled.cpu().numpy())
    return {output: np.concatenate(parts) for output, parts in found.items()}


@contextmanager
def random_weights(device: str) -> Iterator[None]:
    """The encoders' networks with random weights, and a tokenizer of MiniLM's kind; one thread, as in a run."""
    from efficientnet_lite_pytorch import EfficientNet
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate([*special, *WORDS])})
    tokenizer.enable_truncation(128)
    size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bert = BertModel(BertConfig(vocab_size=1000, **size), add_pooling_layer=False)
        bert = bert.eval().requires_grad_(False).to(device)
        convolutions = EfficientNet.from_name("efficientnet-lite0", image_size=224).eval().requires_grad_(False)
    with (
        mock.patch.object(minilm, "_load", return_value=(tokenizer, bert)),
        mock.patch.object(efficientnet, "load_network", return_value=convolutions),
        mock.patch.dict(os.environ, TOKENIZERS_PARALLELISM="false"),
    ):
        network = efficientnet._network.__wrapped__(224, device)
        with mock.patch.object(efficientnet, "_network", return_value=network):
            yield


def encoders(device: str, tiny: bool = False) -> dict[str, float]:
    """Of each encoder what `compared` finds, under `<encoder>_<figure>`."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(5, 60))) for _ in range(4 if tiny else 16_384)]
    images = rng.integers(0, 256, (2 if tiny else 4_096, 28, 28), dtype=np.uint8)
    with random_weights(device):
        found = {
            "minilm": compared(MiniLM().encode, minilm_before, texts, 2 if tiny else 4_096, device),
            "efficientnet": compared(
                EfficientNetLite0().encode, efficientnet_before, images, 2 if tiny else 512, device
            ),
        }
    return {f"{name}_{figure}": x for name, figures in found.items() for figure, x in figures.items()}


def compared(now: Way, before: Way, inputs: Any, few: int, device: str) -> dict[str, float]:
    """Inputs a second, now of all and before of `few` (medians); their ratio; the largest difference of the features as
    a share of the largest feature."""
    found, expected = now(inputs, device), before(inputs[:few], device)  # these also warm up
    gap = max(np.abs(found[o][:few] - x).max() / np.abs(x).max() for o, x in expected.items())
    seconds, seconds_before = [], []
    for _ in range(ROUNDS):
        seconds.append(timed(lambda: now(inputs, device), device))
        seconds_before.append(timed(lambda: before(inputs[:few], device), device))
    rate, rate_before = len(inputs) / median(seconds), few / median(seconds_before)
    return {"per_second": rate, "per_second_before": rate_before, "ratio": rate / rate_before, "gap": float(gap)}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_encoders_on_a_gpu(benchmark) -> None:  # type: ignore[no-untyped-def]
    figures = benchmark.pedantic(lambda: encoders("cuda"), rounds=1)
    assert max(figures["minilm_gap"], figures["efficientnet_gap"]) < 1e-3
    print(f"\n{torch.cuda.get_device_name()}: {', '.join(f'{name} {x:.4g}' for name, x in figures.items())}")


def test_the_figures_on_tiny_sizes() -> None:
    with PinnedMemory():
        figures = encoders("cpu:0", tiny=True)
    assert len(figures) == 8
    for name in ("minilm", "efficientnet"):
        assert figures[f"{name}_per_second"] / figures[f"{name}_per_second_before"] == figures[f"{name}_ratio"] > 0
        assert figures[f"{name}_gap"] < 1e-4
