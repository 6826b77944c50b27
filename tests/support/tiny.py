"""Tiny random models in folders, and texts for them: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

WORDS = [f"w{i}" for i in range(80)] + ["good", "bad", "Human", "Assistant"]
SPECIAL = ["<unk>", "<pad>", "<end>", "<begin>", "<cls>", "<sep>"]
VOCABULARY = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}


def vocabulary_of(words: Sequence[str]) -> dict[str, int]:
    """The special tokens and these words."""
    return {word: i for i, word in enumerate([*SPECIAL, *words])}


FAMILIES = ("llama", "gpt2", "bert", "roberta", "qwen2")
DEPTH = 4
ROUNDINGS = DEPTH * 6 * 32  # that follow on each other in a forward pass: six products a block, of 16 or 32 terms each


def save_tokenizer(
    folder: Path, begin: bool = False, encoder: bool = False, words: Sequence[str] = WORDS, **special: str
) -> None:
    """A tokenizer of whole words. `special` are e.g. `pad_token="<pad>"`; `begin` puts <begin> before every text."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(WordLevel(vocabulary_of(words), unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    used = [(token, VOCABULARY[token]) for token in SPECIAL]
    if encoder:
        core.post_processor = TemplateProcessing(single="<cls> $A <sep>", special_tokens=used)
        special = {"cls_token": "<cls>", "sep_token": "<sep>", "pad_token": "<pad>", **special}
    elif begin:
        core.post_processor = TemplateProcessing(single="<begin> $A", special_tokens=used)
        special = {"bos_token": "<begin>", **special}
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", **special).save_pretrained(folder)


def save_model(
    folder: Path, family: str, dropout: float = 0.1, seed: int = 0, pad: bool = True, words: Sequence[str] = WORDS
) -> Path:
    """A random model of one family and its tokenizer; hidden size 16, four blocks."""
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        DebertaV2Config,
        DebertaV2ForMaskedLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        RobertaConfig,
        RobertaForMaskedLM,
    )

    vocabulary = len(vocabulary_of(words))
    size: dict[str, Any] = {"vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": DEPTH}
    heads: dict[str, Any] = {"num_attention_heads": 2, "intermediate_size": 32}
    ids = {"pad_token_id": VOCABULARY["<pad>"], "eos_token_id": VOCABULARY["<end>"], "bos_token_id": None}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model: Any
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "llama":
            own = {"num_key_value_heads": 1, "attention_dropout": dropout, "initializer_range": 0.3}
            model = LlamaForCausalLM(LlamaConfig(**size, **heads, **own, **ids))
        elif family == "qwen2":  # blocks of two kinds, one after the other
            kinds = ["full_attention", "sliding_attention"] * (DEPTH // 2)
            own = {"num_key_value_heads": 1, "initializer_range": 0.3, "use_sliding_window": True, "sliding_window": 3}
            model = Qwen2ForCausalLM(Qwen2Config(**size, **heads, **own, layer_types=kinds, **ids))
        elif family == "gpt2":
            own = {"n_embd": 16, "n_layer": DEPTH, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
            drop = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
            model = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **own, **drop, **ids))
        elif family == "bert":
            model = BertForMaskedLM(BertConfig(**size, **heads, **drops, initializer_range=0.3, pad_token_id=1))
        elif family == "deberta":  # its layers also see embeddings of distances, which belong to no sequence
            own = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "pad_token_id": 1}
            own |= {"max_relative_positions": 16, "position_biased_input": False, "initializer_range": 0.3}
            model = DebertaV2ForMaskedLM(DebertaV2Config(**size, **heads, **drops, **own))
        else:
            own = {"max_position_embeddings": 66, "type_vocab_size": 1, "initializer_range": 0.3, "pad_token_id": 1}
            model = RobertaForMaskedLM(RobertaConfig(**size, **heads, **drops, **own))
    model.save_pretrained(folder)
    if family in ("bert", "deberta", "roberta"):
        save_tokenizer(folder, encoder=True, words=words)
    else:
        save_tokenizer(folder, eos_token="<end>", words=words, **({"pad_token": "<pad>"} if pad else {}))
    return folder


@dataclass(frozen=True)
class Models:
    """The folders of one tiny model of each family."""

    root: Path

    def __getitem__(self, family: str) -> str:
        return str(self.root / family)


def random_texts(n: int, rng: np.random.Generator, most: int = 12) -> list[str]:
    """Texts of 1 to `most` words."""
    return [" ".join(rng.choice(WORDS[:80], size=rng.integers(1, most + 1))) for _ in range(n)]


def opinions(n: int, seed: int) -> tuple[list[str], NDArray[np.int64]]:
    """Texts that say `bad` (class 0) or `good` (class 1) among other words."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    texts = []
    for text, label in zip(random_texts(n, rng, 6), labels, strict=True):
        said = ["good" if label else "bad"] * 2
        texts.append(" ".join(rng.permutation([*text.split(), *said])))
    return texts, labels.astype(np.int64)


def soft_labels(labels: Sequence[int] | NDArray[np.int64], M: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(M, N, 2) of supervisors who are right more often than not."""
    right = np.eye(2)[np.asarray(labels)] * 2
    scores = right + rng.normal(size=(M, len(right), 2))
    p = np.exp(scores)
    return np.asarray(p / p.sum(-1, keepdims=True), dtype=np.float32)
