"""Texts as token sequences: read, cut to the context, padded."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.assets.pretrained import quiet
from benchmark.base.errors import W2SError
from benchmark.core.inputs import Prompted


@dataclass(frozen=True)
class Sequences:
    """n token sequences, one after the other.

    Attributes:
        ids: (T,) token ids. starts: (n + 1,) where each begins; the last is T.
        replies: (n,) position in its sequence at which each reply begins (0 for a text without a prompt of its own).
        states: (T, D) hidden states below the trained blocks, or None when the whole network is run.
        reference: (n,) log p(reply) under the untrained policy, or None.
        examples: (n,) ids of the examples they belong to, which mean the same in every seed; or None.
        cut_prompts, cut_replies: how many did not fit: prompts are cut on the left, replies and texts on the right.
    """

    ids: Tensor
    starts: Tensor
    replies: Tensor
    states: Tensor | None = None
    reference: Tensor | None = None
    examples: Tensor | None = None
    cut_prompts: int = 0
    cut_replies: int = 0

    def __len__(self) -> int:
        return len(self.replies)

    def to(self, device: str | torch.device) -> "Sequences":
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return self.having(**{name: value.to(device) for name, value in tensors.items()})

    def having(self, **tensors: Tensor) -> "Sequences":
        return replace(self, **tensors)  # type: ignore[arg-type]


def joined(parts: Sequence[Sequences]) -> Sequences:
    """The sequences of several, one after the other."""
    if len(parts) == 1:
        return parts[0]
    begins = np.cumsum([0, *(len(own.ids) for own in parts)]).tolist()
    starts = [own.starts[:-1] + begin for own, begin in zip(parts, begins, strict=False)]
    made = {"starts": torch.cat([*starts, torch.full_like(starts[0][:1], begins[-1])])}
    for name in ("ids", "replies", "states", "reference"):
        if getattr(parts[0], name) is not None:
            made[name] = torch.cat([getattr(own, name) for own in parts])
    return replace(parts[0], **made, examples=None)  # type: ignore[arg-type]


class Extent(NamedTuple):
    """How large a batch of sequences is, as the host knows it: a GPU that is asked keeps the host waiting.

    Attributes:
        positions: L, of the longest sequence or more.
        replies: for each of n sequences, tokens of its reply or more; where replicas see other sequences, the most.
    """

    positions: int
    replies: list[int]

    def part(self, some: slice) -> "Extent":
        """That of some of the n sequences."""
        return self._replace(replies=self.replies[some])


class Lengths:
    """On the host, how long sequences and their replies are."""

    def __init__(self, sequences: Sequences) -> None:
        self.whole = sequences.starts.cpu().diff()
        self.replies = self.whole - sequences.replies.cpu()

    def extents(self, rows: Tensor, bucket: int = 1) -> list[Extent]:
        """Of batches: rows (batches, R, n) on the CPU. Lengths are rounded up to multiples of `bucket`, but not beyond
        the longest sequence of all, so that a GPU sees few shapes."""
        positions = _rounded(self.whole[rows].amax((1, 2)), bucket).clamp(max=int(self.whole.max()))
        replies = self.replies[rows].amax(1)
        if bucket > 1:  # all alike; something stands before each reply
            longest = _rounded(replies.amax(1), bucket).minimum(positions - 1)
            replies = longest[:, None].expand_as(replies)
        return [Extent(L, own) for L, own in zip(positions.tolist(), replies.tolist(), strict=True)]


def _rounded(lengths: Tensor, bucket: int) -> Tensor:
    return (lengths + bucket - 1) // bucket * bucket


class Padded(NamedTuple):
    """n sequences side by side, L positions each: ids (n, L), states (n, L, D), real (n, L), true where a token is, and
    positions (n, L)."""

    ids: Tensor
    states: Tensor | None
    real: Tensor
    positions: Tensor

    def repeated(self, times: int) -> "Padded":
        """All of them, again and again."""
        if times == 1:
            return self
        states = None if self.states is None else self.states.repeat(times, 1, 1)
        return Padded(self.ids.repeat(times, 1), states, self.real.repeat(times, 1), self.positions.repeat(times, 1))

    def attention(self, causal: bool) -> Tensor:
        """(n, 1, L, L), true where a position (third axis) looks at another (last): at tokens, and at itself, so that
        no position of the padding looks at nothing."""
        L, device = self.real.shape[1], self.real.device
        seen = self.real[:, None, None, :] & torch.ones(L, L, dtype=torch.bool, device=device).tril(0 if causal else L)
        return seen | torch.eye(L, dtype=torch.bool, device=device)


def pad(sequences: Sequences, rows: Tensor, L: int, pad_id: int, left: bool) -> Padded:
    """The sequences `rows` (n,), padded to L on the left (so that all end at the last position) or on the right."""
    starts = sequences.starts[rows][:, None]
    lengths = sequences.starts[rows + 1][:, None] - starts
    place = torch.arange(L, device=rows.device)[None]
    if left:
        place = place - (L - lengths)
    real = (place >= 0) & (place < lengths)
    positions = place.clamp(min=0)
    at = (starts + positions).clamp(max=len(sequences.ids) - 1)
    ids = sequences.ids[at].masked_fill(~real, pad_id)
    states = None if sequences.states is None else sequences.states[at] * real[..., None]
    return Padded(ids, states, real, positions.expand_as(real))


class Tokenizer:
    """The tokenizer in a model's folder; `name` is the model's, for messages.

    Attributes:
        pad_id: what fills up; the end token where a tokenizer has no padding token (attention never sees it).
    """

    def __init__(self, folder: Path, name: str) -> None:
        from transformers import AutoTokenizer

        quiet()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever a broken or missing tokenizer makes the library raise
            raise W2SError(f"model '{name}': its tokenizer cannot be read from {folder} ({error})") from error
        end, separator = self._tokenizer.eos_token_id, self._tokenizer.sep_token_id
        self.end_id: int | None = separator if end is None else end
        pad_id = self._tokenizer.pad_token_id
        self.pad_id: int = self.end_id if pad_id is None else pad_id
        if self.pad_id is None:
            raise W2SError(
                f"model '{name}': its tokenizer has neither a padding nor an end token; set `pad_token` in its "
                "tokenizer_config.json, or name another model"
            )
        frame = self._tokenizer("")["input_ids"]  # the special tokens that it wants around a text
        begins = {self._tokenizer.bos_token_id, self._tokenizer.cls_token_id} - {None}
        self._begin = [token for token in frame[:1] if token in begins]
        self._close = [token for token in frame[len(self._begin) :] if token in ({end, separator} - {None})]

    def texts(self, texts: Sequence[str], max_tokens: int) -> Sequences:
        """Whole texts with the model's own special tokens, cut on the right."""
        special = len(self._begin) + len(self._close)
        self._refuse_less_than(special + 1, max_tokens)
        encoded = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        rows = [[*self._begin, *row[: max_tokens - special], *self._close] for row in encoded]
        cut = sum(len(row) > max_tokens - special for row in encoded)
        return _sequences([row or [self.pad_id] for row in rows], [0] * len(rows), 0, cut)

    def prompted(self, items: Sequence[Prompted], max_tokens: int) -> Sequences:
        """Prompt, reply and the end token. What does not fit is taken from the left of the prompt, of which one token
        stays; a reply that alone is too long is cut on the right."""
        self._refuse_less_than(len(self._begin) + 2, max_tokens)  # a token of the prompt and one of the reply
        prompts = self._tokenizer([item.prompt for item in items], add_special_tokens=False)["input_ids"]
        replies = self._tokenizer([item.reply for item in items], add_special_tokens=False)["input_ids"]
        rows, starts, cut_prompts, cut_replies = [], [], 0, 0
        for prompt, reply in zip(prompts, replies, strict=True):
            whole = [*reply, self.end_id] if self.end_id is not None else list(reply)
            kept_reply = whole[: max_tokens - len(self._begin) - 1]
            before = prompt or ([] if self._begin else [self.pad_id])  # something must stand before a reply
            kept_prompt = before[len(before) - min(len(before), max_tokens - len(self._begin) - len(kept_reply)) :]
            cut_prompts += len(kept_prompt) < len(before)
            cut_replies += len(kept_reply) < len(whole)
            rows.append([*self._begin, *kept_prompt, *kept_reply])
            starts.append(len(self._begin) + len(kept_prompt))
        return _sequences(rows, starts, cut_prompts, cut_replies)

    def _refuse_less_than(self, least: int, max_tokens: int) -> None:
        if max_tokens < least:
            raise W2SError(f"max_tokens={max_tokens}: this model's tokenizer needs {least} at least")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


load_tokenizer = functools.lru_cache(maxsize=4)(Tokenizer)


def _sequences(rows: list[list[int]], replies: list[int], cut_prompts: int, cut_replies: int) -> Sequences:
    starts = np.cumsum([0, *map(len, rows)])
    ids = np.fromiter((token for row in rows for token in row), np.int64, int(starts[-1]))
    tensors = torch.from_numpy(ids), torch.from_numpy(starts), torch.tensor(replies, dtype=torch.int64)
    return Sequences(*tensors, cut_prompts=cut_prompts, cut_replies=cut_replies)
