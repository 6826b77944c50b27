"""What judges said: `<results>/<method>/judgements.jsonl`, one `Judgement` (a reply, an order) a line."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field

from benchmark.base.files import atomic_write
from benchmark.core.records import Schema, Sha256, Version
from benchmark.judging.prompt import Verdict
from benchmark.results.layout import method_folders
from benchmark.results.lines import read_lines
from benchmark.results.replies import OfReply, Reply, ReplyKey, read_replies

JUDGEMENTS = "judgements.jsonl"
Order = Literal["reply first", "reference first"]
ORDERS: tuple[Order, ...] = get_args(Order)


class Judge(NamedTuple):
    """Who judged: verdicts of different judges are never mixed."""

    model: str
    prompt_version: int


class JudgementKey(NamedTuple):
    """Names a judgement; with the hash of the texts it is the judgement's identity."""

    reply: ReplyKey
    judge: Judge
    order: Order


class Judgement(OfReply):
    """One verdict about one reply.

    Attributes:
        text_sha256: `Reply.text_sha256` of what was judged.
        order: what was shown first, as A.
    """

    schema_version: Schema = 1
    text_sha256: Sha256
    judge: Annotated[str, Field(min_length=1)]
    prompt_version: Version
    order: Order
    verdict: Verdict

    @classmethod
    def of(cls, reply: Reply, judge: Judge, order: Order, verdict: Verdict) -> Self:
        own: dict[str, Any] = reply.model_dump(include=set(OfReply.model_fields))
        own |= {"judge": judge.model, "prompt_version": judge.prompt_version, "order": order, "verdict": verdict}
        return cls(text_sha256=reply.text_sha256, **own)

    @property
    def judgement_key(self) -> JudgementKey:
        return JudgementKey(self.key, Judge(self.judge, self.prompt_version), self.order)


@dataclass
class Judged:
    """The replies of a suite's folder and the judgements that fit them.

    Attributes:
        problems: what can't be used, beginning with its file; a line for each reply, or for each fault of judgements.
        orphans: judgements whose reply is not here (its file is gone, or can't be read): they cost something, so they
            are kept, but count for nothing.
    """

    replies: dict[ReplyKey, Reply] = field(default_factory=dict)
    judgements: dict[JudgementKey, Judgement] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    orphans: dict[JudgementKey, Judgement] = field(default_factory=dict)


def read_judged(root: Path) -> Judged:
    """Replies and judgements in `results/<suite>`."""
    replies, problems = read_replies(root)
    judged = Judged(replies, problems=problems)
    for folder in method_folders(root):
        _read_folder(folder, judged)
    return judged


def _read_folder(folder: Path, judged: Judged) -> None:
    found, problems = read_lines(folder / JUDGEMENTS, Judgement, appended=True)
    faults: dict[str, list[str]] = {}  # a rerun can outdate thousands: each fault is one line, with its first place
    for number, judgement in found:
        key = judgement.judgement_key
        reply = judged.replies.get(judgement.key)
        if judgement.method != folder.name:
            fault = "method: expected the folder's name"
        elif reply is None:
            fault = "there is no such reply"
            judged.orphans[key] = judgement
        elif reply.text_sha256 != judgement.text_sha256:
            fault = "text_sha256: the reply is not what was judged; judge it again"
        elif key in judged.judgements:
            fault = "repeats another"
        else:
            judged.judgements[key] = judgement
            continue
        faults.setdefault(fault, []).append(f"line {number}, example {judgement.example} of {judgement.key.record}")
    judged.problems += problems
    for fault, where in faults.items():
        count = "1 judgement" if len(where) == 1 else f"{len(where):,} judgements, the first"
        judged.problems.append(f"{folder.name}/{JUDGEMENTS}: {count} ({where[0]}): {fault}")


class JudgementLog:
    """Adds judgements to a suite's folder, each on disk before the next. Only while holding the store's lock.

    Opening it mends the files: a line that a kill tore is dropped, and so is what can't be read, is repeated or was
    said about texts that have changed. `close` sorts them, so that they don't depend on the order of the answers.

    Args:
        judged: what `read_judged` found there.
    """

    def __init__(self, root: Path, judged: Judged) -> None:
        self._root = root
        self._judgements = {**judged.orphans, **judged.judgements}
        self._mend()

    def add(self, judgement: Judgement) -> None:
        """Append one line and sync it."""
        with (self._root / judgement.method / JUDGEMENTS).open("ab") as file:
            file.write(f"{judgement.to_line()}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        self._judgements[judgement.judgement_key] = judgement

    def close(self) -> None:
        self._mend()

    def _mend(self) -> None:
        by_method: dict[str, list[str]] = {}
        for _, judgement in sorted(self._judgements.items()):
            by_method.setdefault(judgement.method, []).append(f"{judgement.to_line()}\n")
        for folder in method_folders(self._root):
            path, content = folder / JUDGEMENTS, "".join(by_method.get(folder.name, ())).encode()
            if path.exists() and path.read_bytes() != content:
                atomic_write(path, content)
