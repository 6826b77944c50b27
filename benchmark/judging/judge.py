"""`w2s judge`: asks a judge about every reply, in both orders, and keeps each verdict as it comes."""

import sys
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from benchmark.analysis.cells import analysis_of
from benchmark.base.errors import W2SError, unknown_name
from benchmark.base.notices import Say
from benchmark.base.seeding import derive
from benchmark.core.records import RecordKey
from benchmark.judging.client import Client, Failure
from benchmark.judging.judgements import ORDERS, Judge, Judged, Judgement, JudgementLog, Order, read_judged
from benchmark.judging.prompt import MAX_TOKENS, PROMPT_VERSION, Verdict, messages
from benchmark.judging.rates import summary
from benchmark.results.replies import REPLIES, Reply, ReplyKey
from benchmark.results.store import ResultStore

_GIVE_UP = 20  # questions in a row without a verdict: the judge is down, or not up to it
_CHARACTERS_PER_TOKEN = 4


class Question(NamedTuple):
    """A reply and which of the two texts is shown first."""

    reply: Reply
    order: Order

    @property
    def shown(self) -> tuple[str, str, str]:
        """The prompt, A and B."""
        texts = (self.reply.reply, self.reply.reference)
        return self.reply.prompt, *(texts if self.order == "reply first" else texts[::-1])


def judge(
    results: Path,
    client: Client,
    say: Say,
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    limit: int | None = None,
    prices: tuple[float | None, float | None] = (None, None),
    parallel: int = 4,
    dry_run: bool = False,
) -> int:
    """Ask what has not been asked; returns the exit status: 0, or 1 when there are replies without a verdict.

    Args:
        tasks, methods: globs; none for all that are there.
        limit: at most so many prompts of each (task, condition, seed).
        prices: for a million tokens, asked and answered.

    Raises:
        W2SError: bad input, no replies, or a judge that refuses every question.
    """
    if prices.count(None) == 1:
        raise W2SError("--price-in and --price-out: found one of them, expected both or none")
    if not results.is_dir():
        raise W2SError(f"{results}: no such folder of results")
    store, who = ResultStore(results), Judge(client.model, PROMPT_VERSION)
    missing = partial(_missing, who=who, tasks=tasks, methods=methods, limit=limit)
    with nullcontext() if dry_run else store.lock():
        judged, records = _read(store)
        questions, problems = missing(judged, records), [f"{results}/{problem}" for problem in judged.problems]
        for line in (*([] if dry_run else problems), _estimate(questions, *prices)):
            say(line)
        if dry_run:
            return 0
        try:
            with closing(JudgementLog(results, judged)) as log:
                reasons = _ask_all(questions, client, who, parallel, log)
        except KeyboardInterrupt:
            say(f"stopped: verdicts so far are in {results}; the same command goes on from there")
            return 130
        judged = read_judged(results)
        say(summary(judged, records, who))
    for reason, count in sorted(reasons.items()):
        say(f"no verdict on {count} questions: {reason}")
    if left := len(missing(judged, records)):
        say(f"{left} questions are left; the same command asks them again")
    return 1 if left else 0


def _read(store: ResultStore) -> tuple[Judged, set[RecordKey]]:
    """Replies, judgements, and the records that the tables use: only these are worth a judge's time."""
    records = {record.key for record in analysis_of(store).records}
    judged = read_judged(store.root)
    if not any(key.record in records for key in judged.replies):
        first = f" ({judged.problems[0]})" if judged.problems else ""
        there = f"the {len(judged.replies)} replies there belong to no record" if judged.replies else "no replies there"
        raise W2SError(
            f"{store.root}: {there}{first}; `w2s run --replies N` on a task with a language-model student writes "
            f"<method>/{REPLIES}"
        )
    return judged, records


def _missing(
    judged: Judged, records: set[RecordKey], who: Judge, tasks: Sequence[str], methods: Sequence[str], limit: int | None
) -> list[Question]:
    """The questions without a verdict, both orders of a reply next to each other."""
    keys = sorted(key for key in judged.replies if key.record in records)
    of_tasks = _select("task", tasks, {key.record.task for key in keys})
    of_methods = _select("method", methods, {key.record.method for key in keys})
    keys = [key for key in keys if key.record.task in of_tasks and key.record.method in of_methods]
    if limit is not None:
        keys = _first_prompts(keys, limit)
    asked = [(key, order) for key in keys for order in ORDERS]
    return [Question(judged.replies[key], order) for key, order in asked if (key, who, order) not in judged.judgements]


def _select(kind: str, globs: Sequence[str], known: set[str]) -> set[str]:
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in known):
            raise unknown_name(f"{kind} with replies", glob, known)
    return {name for name in known if not globs or any(fnmatchcase(name, glob) for glob in globs)}


def _first_prompts(keys: Sequence[ReplyKey], limit: int) -> list[ReplyKey]:
    """Replies to the first prompts of a fixed shuffle: the same prompts for all methods, more of them with a higher
    limit. Examples are counted within each (task, condition, seed), since seeds have test splits of their own."""
    examples: dict[tuple[str, str, int], set[int]] = {}
    for key in keys:
        examples.setdefault((key.record.task, key.record.condition, key.record.seed), set()).add(key.example)
    chosen = {
        unit: set(sorted(found, key=lambda example: derive("judged prompts", unit[0], example))[:limit])
        for unit, found in examples.items()
    }
    return [key for key in keys if key.example in chosen[key.record.task, key.record.condition, key.record.seed]]


def _estimate(questions: Sequence[Question], price_in: float | None, price_out: float | None) -> str:
    """How many questions, tokens and, with prices, how much money."""
    characters = sum(len(message["content"]) for q in questions for message in messages(*q.shown))
    tokens_in, tokens_out = characters // _CHARACTERS_PER_TOKEN, len(questions) * MAX_TOKENS
    replies = len({question.reply.key for question in questions})
    text = f"{len(questions):,} calls ({replies:,} replies in both orders, less what is done): about {tokens_in:,} "
    text += f"tokens in (characters / {_CHARACTERS_PER_TOKEN}), at most {tokens_out:,} tokens out"
    if price_in is None or price_out is None:
        return f"{text}; no cost without --price-in and --price-out"
    return f"{text}; cost about {(tokens_in * price_in + tokens_out * price_out) / 1e6:,.2f}"


def _ask_all(
    questions: Sequence[Question], client: Client, who: Judge, parallel: int, log: JudgementLog
) -> Counter[str]:
    """Ask and log; returns how many questions got no verdict, by reason. Gives up after `_GIVE_UP` of them in a row."""
    reasons: Counter[str] = Counter()
    in_a_row = 0
    with (
        Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar,
        closing(_answers(questions, client, parallel)) as answers,
    ):
        shown = bar.add_task("judging", total=len(questions))
        for question, answer in answers:
            bar.advance(shown)
            if isinstance(answer, Failure):
                reasons[answer.reason] += 1
                in_a_row += 1
                if in_a_row == _GIVE_UP:
                    left = len(questions) - int(bar.tasks[0].completed)
                    reasons[f"not asked, since {_GIVE_UP} in a row got none"] = left
                    break
            else:
                in_a_row = 0
                log.add(Judgement.of(question.reply, who, question.order, answer))
    return reasons


def _answers(
    questions: Sequence[Question], client: Client, parallel: int
) -> Generator[tuple[Question, Verdict | Failure], None, None]:
    """Questions with their answers, as they come.

    At most `parallel` are asked and not yet taken: that is all that a kill can lose. The threads are daemons, so that
    nothing waits for answers that nobody wants any more.
    """
    todo: SimpleQueue[Question | None] = SimpleQueue()
    done: SimpleQueue[tuple[Question, Verdict | Failure | BaseException]] = SimpleQueue()

    def work() -> None:
        while (question := todo.get()) is not None:
            try:
                seed = derive("judge", str(question.reply.key), question.order)
                done.put((question, client.ask(*question.shown, seed)))
            except BaseException as error:
                done.put((question, error))

    waiting = iter(questions)
    for _ in range(min(parallel, len(questions))):
        todo.put(next(waiting))
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in questions:
            question, answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            yield question, answer
            todo.put(next(waiting, None))
    finally:
        client.stop.set()
        for _ in range(parallel):
            todo.put(None)
