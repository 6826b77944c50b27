"""What students reply to test prompts: `<results>/<method>/replies.jsonl`, one `Reply` a line."""

from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from benchmark.base.files import atomic_write
from benchmark.base.fingerprint import fingerprint
from benchmark.core.records import Condition, Count, MethodName, RecordKey, SettingHash, Strict, TaskName
from benchmark.results.layout import method_folders
from benchmark.results.lines import read_keyed

REPLIES = "replies.jsonl"


class ReplyKey(NamedTuple):
    """Names a reply: the record of its student, which of the record's replicas, and the prompt."""

    record: RecordKey
    replica: int
    example: int


class OfReply(Strict):
    """The fields that say which reply is meant.

    Attributes:
        setting, seed: as in the student's `Record`.
        replica: from 0; the supervisor for a `single` method, else 0.
        example: id of the prompt; it means the same prompt for all methods and seeds of a (task, condition).
    """

    task: TaskName
    condition: Condition
    method: MethodName
    setting: SettingHash
    seed: Count
    replica: Count
    example: int

    @property
    def key(self) -> ReplyKey:
        record = RecordKey(self.task, self.condition, self.method, self.setting, self.seed)
        return ReplyKey(record, self.replica, self.example)


class Reply(OfReply):
    """What one student says to one prompt, and the data set's chosen response to it."""

    prompt: str
    reply: str
    reference: str

    @cached_property
    def text_sha256(self) -> str:
        """Hash of the three texts: a judgement belongs to exactly these."""
        return fingerprint([self.prompt, self.reply, self.reference])


def read_replies(root: Path) -> tuple[dict[ReplyKey, Reply], list[str]]:
    """All replies in `results/<suite>`, and a line for each that can't be used, beginning with its file."""
    replies: dict[ReplyKey, Reply] = {}
    problems: list[str] = []
    for folder in method_folders(root):
        found, faults = read_keyed(folder / REPLIES, Reply)
        replies |= found
        problems += faults
    return replies, problems


def write_replies(root: Path, replies: Iterable[Reply], renewed: Collection[RecordKey] = ()) -> None:
    """Add replies to `results/<suite>`, replacing those of the same key; each method's file is replaced atomically.

    What can't be read in a file that is written is dropped. Call it while holding the store's lock.

    Args:
        replies: to add.
        renewed: records that were made anew; their old replies are those of students that are no more, and dropped.
    """
    new = {reply.key: reply for reply in replies}
    for method in sorted({key.method for key in (*(key.record for key in new), *renewed)}):
        fresh = {key: reply for key, reply in new.items() if key.record.method == method}
        before, _ = read_keyed(root / method / REPLIES, Reply)
        kept = {key: reply for key, reply in before.items() if key.record not in renewed}
        if not fresh and len(kept) == len(before):
            continue
        merged = sorted({**kept, **fresh}.items())
        atomic_write(root / method / REPLIES, "".join(f"{reply.to_line()}\n" for _, reply in merged).encode())
