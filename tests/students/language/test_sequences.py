"""Texts as tokens: padding tokens, what is cut where, and how much of it is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny import VOCABULARY, save_model, save_tokenizer

pytest.importorskip("peft")

from benchmark.base.errors import W2SError
from benchmark.core.inputs import Prompted
from benchmark.students.language.sequences import Sequences, Tokenizer
from benchmark.students.language.student import LanguageModel

END, PAD, BEGIN = (VOCABULARY[f"<{name}>"] for name in ("end", "pad", "begin"))


def tokenizer(folder: Path, **special: Any) -> Tokenizer:
    save_tokenizer(folder, **special)
    return Tokenizer(folder, "tiny")


def rows(sequences: Sequences) -> list[tuple[list[int], list[int]]]:
    """What stands before each reply, and the reply."""
    spans = zip(sequences.starts.tolist(), sequences.starts.tolist()[1:], sequences.replies.tolist(), strict=False)
    return [(sequences.ids[a : a + r].tolist(), sequences.ids[a + r : b].tolist()) for a, b, r in spans]


def ids(*words: int) -> list[int]:
    return [VOCABULARY[f"w{word}"] for word in words]


def test_without_a_padding_token_the_end_token_fills_up(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>")
    assert made.pad_id == made.end_id == END
    both = tokenizer(tmp_path / "both", eos_token="<end>", pad_token="<pad>")
    assert (both.pad_id, both.end_id) == (PAD, END)


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


def test_a_prompt_is_cut_on_its_left(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>")
    found = made.prompted([Prompted("w1 w2 w3 w4 w5", "w6 w7"), Prompted("w1", "w2")], 6)
    assert rows(found) == [(ids(3, 4, 5), [*ids(6, 7), END]), (ids(1), [*ids(2), END])]
    assert (found.cut_prompts, found.cut_replies) == (1, 0)


def test_what_just_fits_is_not_cut(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>")
    found = made.prompted([Prompted("w1 w2 w3", "w6 w7")], 6)
    assert rows(found) == [(ids(1, 2, 3), [*ids(6, 7), END])]
    assert (found.cut_prompts, found.cut_replies) == (0, 0)


def test_a_reply_longer_than_the_context_is_cut_on_its_right(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>")
    found = made.prompted([Prompted("w1 w2", "w3 w4 w5 w6 w7 w8"), Prompted("w1", "w3 w4 w5 w6 w7 w8")], 5)
    assert rows(found) == [(ids(2), ids(3, 4, 5, 6)), (ids(1), ids(3, 4, 5, 6))]  # a token of the prompt stays
    assert (found.cut_prompts, found.cut_replies) == (1, 2)


@pytest.mark.parametrize(
    ("special", "before"), [({"pad_token": "<pad>"}, [PAD]), ({}, [END]), ({"begin": True}, [BEGIN])], ids=str
)
def test_something_stands_before_the_reply_to_an_empty_prompt(
    special: dict[str, Any], before: list[int], tmp_path: Path
) -> None:
    made = tokenizer(tmp_path, eos_token="<end>", **special)
    found = made.prompted([Prompted("", "w1")], 6)
    assert rows(found) == [(before, [*ids(1), END])]
    assert (found.cut_prompts, found.cut_replies) == (0, 0)


def test_an_empty_reply_is_the_end_token(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>")
    assert rows(made.prompted([Prompted("w1", "")], 6)) == [(ids(1), [END])]


def test_the_beginning_token_stays_when_a_prompt_is_cut(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>", begin=True)
    found = made.prompted([Prompted("w1 w2 w3 w4 w5", "w6")], 5)
    assert rows(found) == [([BEGIN, *ids(4, 5)], [*ids(6), END])]
    assert found.cut_prompts == 1


@pytest.mark.parametrize(("begin", "least"), [(False, 2), (True, 3)])
def test_a_context_without_room_is_refused(begin: bool, least: int, tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>", begin=begin)
    item = [Prompted("w1 w2", "w3 w4")]
    assert len(made.prompted(item, least).ids) == least
    with pytest.raises(W2SError, match=f"max_tokens={least - 1}: this model's tokenizer needs {least} at least"):
        made.prompted(item, least - 1)


def test_texts_are_cut_on_their_right_and_keep_their_special_tokens(tmp_path: Path) -> None:
    causal = tokenizer(tmp_path / "causal", eos_token="<end>", begin=True)
    found = causal.texts(["w1 w2 w3", "w1", "w1 w2 w3 w4 w5"], 4)
    assert [before + after for before, after in rows(found)] == [
        [BEGIN, *ids(1, 2, 3)],
        [BEGIN, *ids(1)],
        [BEGIN, *ids(1, 2, 3)],
    ]
    assert (found.cut_prompts, found.cut_replies) == (0, 1)
    encoder = tokenizer(tmp_path / "encoder", encoder=True)
    first, last = VOCABULARY["<cls>"], VOCABULARY["<sep>"]
    found = encoder.texts(["w1 w2 w3", ""], 4)
    assert [after for _, after in rows(found)] == [[first, *ids(1, 2), last], [first, last]]
    assert found.cut_replies == 1


def test_an_empty_text_is_a_padding_token(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos_token="<end>", pad_token="<pad>")
    assert rows(made.texts([""], 4)) == [([], [PAD])]


def test_a_text_reads_as_the_library_reads_it(tmp_path: Path) -> None:
    for name, special in {"begin": {"begin": True}, "encoder": {"encoder": True}, "bare": {}}.items():
        made = tokenizer(tmp_path / name, eos_token="<end>", **special)
        (row,) = rows(made.texts(["w1 w2 w3"], 20))
        assert row[1] == made._tokenizer("w1 w2 w3")["input_ids"], name
