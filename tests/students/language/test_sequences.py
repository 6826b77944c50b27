"""Texts as tokens: padding tokens, what is cut where, and how much of it is counted."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from support.tiny import VOCABULARY, save_model, save_tokenizer

pytest.importorskip("peft")

from benchmark.base.errors import W2SError
from benchmark.core.inputs import Prompted
from benchmark.students.language.sequences import Lengths, Sequences, Tokenizer
from benchmark.students.language.student import LanguageModel

END, PAD, BEGIN, CLS, SEP = (VOCABULARY[f"<{name}>"] for name in ("end", "pad", "begin", "cls", "sep"))
KINDS: dict[str, dict[str, Any]] = {
    "end": {"eos_token": "<end>"},
    "pad": {"eos_token": "<end>", "pad_token": "<pad>"},
    "begin": {"eos_token": "<end>", "begin": True},
    "encoder": {"encoder": True},
}
BEFORE, AFTER = {"begin": [BEGIN], "encoder": [CLS]}, {"encoder": [SEP]}  # what stands around every text


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    root = tmp_path_factory.mktemp("tokenizers")
    for kind, special in KINDS.items():
        save_tokenizer(root / kind, **special)
    return {kind: Tokenizer(root / kind, "tiny") for kind in KINDS}


def rows(sequences: Sequences) -> list[tuple[list[int], list[int]]]:
    """What stands before each reply, and the reply."""
    spans = zip(sequences.starts.tolist(), sequences.starts.tolist()[1:], sequences.replies.tolist(), strict=False)
    return [(sequences.ids[a : a + r].tolist(), sequences.ids[a + r : b].tolist()) for a, b, r in spans]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=6),
    st.sampled_from([1, 4]),
    st.data(),
)
def test_a_batch_has_room_for_its_longest(sizes: list[tuple[int, int]], bucket: int, data: st.DataObject) -> None:
    """Prompts and replies of these sizes, in batches that differ by replica. Exactly, or in few shapes for a GPU."""
    lengths, replies = ([sum(own) for own in sizes], [reply for _, reply in sizes])
    starts = torch.tensor([0, *accumulate(lengths)])
    made = Lengths(Sequences(torch.zeros(sum(lengths)), starts, torch.tensor([prompt for prompt, _ in sizes])))
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=12, max_size=12))).view(2, 2, 3)
    for batch, extent in zip(rows.tolist(), made.extents(rows, bucket), strict=True):
        longest = max(lengths[i] for own in batch for i in own)
        said = [max(replies[i] for i in own) for own in zip(*batch, strict=True)]
        if bucket == 1:
            assert extent == (longest, said)
        else:
            assert longest <= extent.positions <= max(lengths)
            assert extent.positions % bucket == 0 or extent.positions == max(lengths)
            assert len({*extent.replies}) == 1
            assert max(said) <= extent.replies[0] < extent.positions
            assert extent.replies[0] % bucket == 0 or extent.replies[0] == extent.positions - 1


words = st.lists(st.sampled_from([f"w{i}" for i in range(9)]), max_size=9)
kinds, tokens = st.sampled_from(sorted(KINDS)), st.integers(3, 20)


def ids(text: list[str]) -> list[int]:
    return [VOCABULARY[word] for word in text]


@given(kinds, st.lists(st.tuples(words, words), min_size=1, max_size=3), tokens)
@example("begin", [([f"w{i}" for i in range(1, 6)], ["w6"])], 5)  # the beginning token stays when a prompt is cut
def test_a_prompt_is_cut_on_its_left_and_then_a_reply_on_its_right(
    tokenizers: dict[str, Tokenizer], kind: str, texts: list[tuple[list[str], list[str]]], most: int
) -> None:
    """A token of the prompt, or something in its place, always stays; a reply ends with the end token, if it fits."""
    made, begin = tokenizers[kind], BEFORE.get(kind, [])
    expected, cut_prompts, cut_replies = [], 0, 0
    for prompt, reply in texts:
        whole = [*ids(reply), SEP if kind == "encoder" else END]
        before = ids(prompt) or ([] if begin else [PAD if kind == "pad" else END])
        kept, left = whole[: most - len(begin) - 1], list(before)
        while len(begin) + len(left) + len(kept) > most:
            left.pop(0)
        expected.append((begin + left, kept))
        cut_prompts, cut_replies = cut_prompts + (left != before), cut_replies + (kept != whole)
    found = made.prompted([Prompted(" ".join(prompt), " ".join(reply)) for prompt, reply in texts], most)
    assert rows(found) == expected
    assert (found.cut_prompts, found.cut_replies) == (cut_prompts, cut_replies)


@given(kinds, st.lists(words, min_size=1, max_size=3), tokens)
def test_texts_are_cut_on_their_right_and_keep_their_special_tokens(
    tokenizers: dict[str, Tokenizer], kind: str, texts: list[list[str]], most: int
) -> None:
    """As the library reads what fits; an empty text is a padding token."""
    made, expected = tokenizers[kind], []
    before, after = BEFORE.get(kind, []), AFTER.get(kind, [])
    room = most - len(before) - len(after)
    found = made.texts([" ".join(text) for text in texts], most)
    for text in texts:
        expected.append([*before, *ids(text)[:room], *after] or [made.pad_id])
        assert len(text) > room or not text or expected[-1] == made._tokenizer(" ".join(text))["input_ids"]
    assert rows(found) == [([], own) for own in expected]
    assert (found.cut_prompts, found.cut_replies) == (0, sum(len(text) > room for text in texts))


def test_without_a_padding_token_the_end_token_fills_up(tokenizers: dict[str, Tokenizer]) -> None:
    assert tokenizers["end"].pad_id == tokenizers["end"].end_id == END
    assert (tokenizers["pad"].pad_id, tokenizers["pad"].end_id) == (PAD, END)


def test_with_neither_a_model_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, "llama")
    save_tokenizer(tmp_path)
    with pytest.raises(W2SError, match="neither a padding nor an end token; set `pad_token` in its"):
        LanguageModel("policy", model=str(tmp_path)).sequences((["w1"], ["w2"]))


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, eos_token="<end>")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(W2SError, match=r"model 'tiny': its tokenizer cannot be read from"):
        Tokenizer(tmp_path, "tiny")


@pytest.mark.parametrize(("kind", "least"), [("end", 2), ("begin", 3)])
def test_a_context_without_room_is_refused(tokenizers: dict[str, Tokenizer], kind: str, least: int) -> None:
    item = [Prompted("w1 w2", "w3 w4")]
    assert len(tokenizers[kind].prompted(item, least).ids) == least
    with pytest.raises(W2SError, match=f"max_tokens={least - 1}: this model's tokenizer needs {least} at least"):
        tokenizers[kind].prompted(item, least - 1)
