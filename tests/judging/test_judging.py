"""Judged win rates, against a real server on this machine that also misbehaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from benchmark.analysis.cells import analysis_of
from benchmark.base.errors import W2SError
from benchmark.core.records import setting_hash
from benchmark.judging.client import Backoff, Client, Failure
from benchmark.judging.judge import judge
from benchmark.judging.judgements import JUDGEMENTS, Judge, read_judged
from benchmark.judging.prompt import PROMPT_VERSION, parse_verdict
from benchmark.judging.rates import points, win_rates
from benchmark.reports.checks import check
from benchmark.reports.leaderboard import render
from benchmark.reports.publish import publish
from benchmark.results import store as results
from benchmark.results.replies import REPLIES, Reply, read_replies, write_replies
from benchmark.results.store import ResultStore
from benchmark.running import runner
from benchmark.running.plan import Unit
from benchmark.running.result import UnitResult
from benchmark.running.stale import stale_findings
from support.fake_judge import Asked, FakeJudge, Sent, first_always, honest, says
from support.synthetic import Task, entry, evaluation, fill

ROOT = Path(__file__).parents[2]
KEY = "sk-very-secret-0123456789"
SETTING = setting_hash({"student": {"learning_rate": 1e-3}, "method": {}})
EXAMPLES, SEEDS = range(6), range(2)
QUICK = Backoff(tries=3, first=0.001, longest=5.0)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def make_reply(method: str, seed: int, replica: int, example: int, **changes: Any) -> Reply:
    """Its quality is drawn from 1..9, the reference's is 5."""
    rng = np.random.default_rng([seed, replica, example, len(method)])
    values = {
        "task": "pairs",
        "condition": "ood",
        "method": method,
        "setting": SETTING,
        "seed": seed,
        "replica": replica,
        "example": example,
        "prompt": f"Human: question {example}\n\nAssistant:",
        "reply": f"{method} {rng.integers(1, 10)} by student {seed} of {replica}",
        "reference": f"chosen 5 to {example}",
    }
    return Reply(**{**values, **changes})


REPLIES_MADE = [
    make_reply(method, seed, replica, example)
    for method, replicas in (("raven", 1), ("naive", 3))
    for seed in SEEDS
    for replica in range(replicas)
    for example in EXAMPLES
]
CALLS = 2 * len(REPLIES_MADE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "demo"
    fill(ResultStore(root), [Task("pairs", "preference", "accuracy")], ("raven", "naive"), SEEDS, ("ood",))
    write_replies(root, REPLIES_MADE)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "demo")


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with FakeJudge() as fake:
        yield fake


def run(root: Path, endpoint: str, dry_run: bool = False, **options: Any) -> tuple[int, str]:
    """Exit status and what was said."""
    said: list[str] = []
    asked = {name: options.pop(name) for name in [*options] if name in signature(judge).parameters}
    client = Client(endpoint, **{"model": "m", "backoff": QUICK, **options})
    return judge(root, client, said.append, dry_run=dry_run, **asked), "\n".join(said)


def rates_of(root: Path, model: str = "m") -> dict[str, Any]:
    records = {record.key for record in analysis_of(ResultStore(root)).records}
    found = win_rates(read_judged(root), records)[Judge(model, PROMPT_VERSION)]
    return {row.method: rate for row, rate in found.items()}


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# --- what is asked and counted ---------------------------------------------------------------------------------------


def test_an_honest_judges_win_rate_is_what_loops_over_the_replies_give(root: Path, server: FakeJudge) -> None:
    status, said = run(root, server.endpoint)
    assert status == 0
    for method, rate in rates_of(root).items():
        by_seed = []
        for seed in SEEDS:
            mine = [r for r in REPLIES_MADE if r.method == method and r.seed == seed]
            qualities = [int(r.reply.split()[1]) for r in mine]
            by_seed.append(np.mean([1.0 if q > 5 else 0.0 if q < 5 else 0.5 for q in qualities]))
        assert rate.sample.values == pytest.approx(by_seed)
        assert (rate.judged, rate.first_shown) == (rate.replies, 0)
        assert f"{100 * np.mean(by_seed):.1f} ± " in said
    assert {Counter(r.method for r in REPLIES_MADE)[m] for m in ("raven", "naive")} == {12, 36}


def test_each_reply_is_asked_in_both_orders_at_temperature_0(root: Path, server: FakeJudge) -> None:
    run(root, server.endpoint + "/")
    expected = [(r.prompt, *pair) for r in REPLIES_MADE for pair in ((r.reply, r.reference), (r.reference, r.reply))]
    assert Counter(server.shown()) == Counter(expected)
    for asked in server.asked:
        assert asked.path == "/v1/chat/completions"
        assert (asked.body["model"], asked.body["temperature"]) == ("m", 0)
        assert asked.body["max_tokens"] < 20
        assert "Authorization" not in asked.headers


def test_a_judge_that_always_prefers_the_first_sees_only_ties(root: Path, server: FakeJudge) -> None:
    server.behave = first_always
    status, said = run(root, server.endpoint)
    assert status == 0
    for rate in rates_of(root).values():
        assert (rate.sample.values == 0.5).all()
        assert rate.first_shown == rate.judged == rate.replies
    assert "first won in both orders in 100.0%" in said


@pytest.mark.parametrize(
    ("reply_first", "reference_first", "expected"),
    [("A", "B", 1.0), ("B", "A", 0.0)]
    + [(a, b, 0.5) for a in ("A", "B", "tie") for b in ("A", "B", "tie") if {a, b} != {"A", "B"}],
)
def test_only_agreeing_verdicts_decide(reply_first: Any, reference_first: Any, expected: float) -> None:
    assert points({"reply first": reply_first, "reference first": reference_first}) == expected
    assert points({"reply first": reply_first}) is None


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("A", "A"), (" b.\n", "B"), ("**Tie**", "tie"), ("[[B]]", "B"), ("Answer: A", "A"), ("Reply B", "B")]
    + [(text, None) for text in ("", "A or B", "A B", "AB", "C", "Both", "A, since it is a better one", "not A", "…")],
)
def test_a_verdict_is_one_word(answer: str, verdict: str | None) -> None:
    assert parse_verdict(answer) == verdict


def test_methods_share_their_resamples_of_prompts(root: Path, server: FakeJudge) -> None:
    """Two methods with the same replies have the same interval, and their difference none."""
    write_replies(root, [make_reply("raven", s, 0, e, reply=f"raven {e} {s}") for s in SEEDS for e in EXAMPLES])
    write_replies(
        root, [make_reply("naive", s, k, e, reply=f"naive {e} {s}") for s in SEEDS for k in range(3) for e in EXAMPLES]
    )
    server.behave = lambda asked: says("A" if honest_number(asked.first) > honest_number(asked.second) else "B")
    run(root, server.endpoint)
    rates = rates_of(root)
    assert np.std(rates["raven"].sample.replicates) > 0.05
    np.testing.assert_allclose(rates["raven"].sample.replicates, rates["naive"].sample.replicates, atol=1e-6)


def honest_number(text: str) -> float:
    """Even examples win, odd ones lose."""
    return 5.0 if text.startswith("chosen") else 9.0 if int(text.split()[1]) % 2 == 0 else 1.0


# --- a server that misbehaves ----------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Sent, str]] = {
    "timeout": (Sent(b"", pause=1.0), "no answer within 0.3 s"),
    "a byte now and then": (Sent(b"{" * 50, pause=0.05, trickle=True), "no answer within 0.3 s"),
    "429": (Sent(b'{"error": {"message": "slow down"}}', 429, {"Retry-After": "2"}), "status 429 (slow down)"),
    "500": (Sent(b"oops", 500), "status 500 (oops)"),
    "503": (Sent(b"", 503), "status 503"),
    "cut": (Sent(b"", None), "RemoteProtocolError: Server disconnected"),
    "no JSON": (Sent(b"<html>"), "no chat completion"),
    "not UTF-8": (Sent(b"\xff\xfe"), "no chat completion"),
    "another JSON": (Sent(b"[1, 2]"), "no chat completion"),
    "no choices": (Sent(b'{"choices": []}'), "no chat completion"),
    "deep JSON": (Sent(b"[" * 100_000), "no chat completion"),
    "endless": (Sent(b" " * 2**21), "too long"),
    "no text": (says(None), "no text"),
    "no verdict": (says("I like both replies."), "neither A, B nor tie"),
}


def client(server: FakeJudge, waited: list[float] | None = None, **options: Any) -> Client:
    def wait(seconds: float) -> bool:
        if waited is not None:
            waited.append(seconds)
        return False

    stop: Any = SimpleNamespace(wait=wait)
    return Client(server.endpoint, "m", **{"timeout": 0.3, "backoff": QUICK, "stop": stop, **options})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_is_asked_again(fault: str, server: FakeJudge) -> None:
    server.behave = lambda asked: FAULTS[fault][0] if asked.number < 2 else honest(asked)
    assert client(server, timeout=0.3).ask("q", "reply 7", "chosen 5", seed=0) == "A"
    assert len(server.asked) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lasting_fault_is_a_failure_with_its_reason(fault: str, server: FakeJudge) -> None:
    server.behave = lambda asked: FAULTS[fault][0]
    answer = client(server).ask("q", "reply 7", "chosen 5", seed=0)
    assert isinstance(answer, Failure)
    assert FAULTS[fault][1] in answer.reason
    assert len(server.asked) == QUICK.tries


def test_waits_grow_are_seeded_and_heed_retry_after(server: FakeJudge) -> None:
    backoff = Backoff(tries=5, first=1.0, longest=6.0)

    def waits(sent: Sent, seed: int) -> list[float]:
        server.behave = lambda asked: sent
        waited: list[float] = []
        client(server, waited, backoff=backoff).ask("q", "1", "2", seed)
        return waited

    plain = waits(Sent(b"", 500), 0)
    assert all(most / 2 <= found <= most for found, most in zip(plain, (1, 2, 4, 6), strict=True))
    assert waits(Sent(b"", 500), 0) == plain != waits(Sent(b"", 500), 1)
    assert waits(Sent(b"", 429, {"Retry-After": "5"}), 0)[:3] == [5.0, 5.0, 5.0]
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    assert 3 < waits(Sent(b"", 429, {"Retry-After": date}), 0)[0] <= 5
    assert waits(Sent(b"", 429, {"Retry-After": "soon"}), 0) == plain
    assert waits(Sent(b"", 429, {"Retry-After": "3600"}), 0) == []  # given up: the next run may ask again


def test_failures_are_reported_and_asked_again_by_the_next_run(root: Path, server: FakeJudge) -> None:
    hard = {REPLIES_MADE[3].reply, REPLIES_MADE[20].reply}

    def moody(asked: Asked) -> Sent:
        return says("hm") if asked.first in hard else honest(asked)

    server.behave = moody
    failing = sum(asked.reply in hard for asked in REPLIES_MADE)
    status, said = run(root, server.endpoint)
    assert status == 1
    assert f"no verdict on {failing} questions: the answer is neither A, B nor tie" in said
    assert f"/{12})" in said or f"/{36})" in said
    assert len(server.asked) == CALLS - failing + failing * QUICK.tries
    server.asked.clear()
    server.behave = honest
    status, said = run(root, server.endpoint)
    assert status == 0
    assert len(server.asked) == failing
    assert {asked.first for asked in server.asked} <= hard
    run(root, server.endpoint)
    assert len(server.asked) == failing


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422, 302, 307])
def test_what_can_not_succeed_stops_at_once_without_showing_the_key(
    code: int, root: Path, server: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    before = files(root)
    server.behave = lambda asked: Sent(
        f"no use with\n{asked.headers['Authorization']}".encode(), code, {"Location": server.endpoint + "/elsewhere"}
    )
    with pytest.raises(W2SError) as caught:
        run(root, server.endpoint, key_variable="MY_KEY", parallel=2)
    assert len(server.asked) <= 2
    message = str(caught.value)
    assert server.endpoint in message
    assert f"status {code}" in message
    assert KEY not in message
    assert "\n" not in message
    assert ("MY_KEY" in message) == (code in (401, 403))
    assert files(root) == before | {".lock": b""}


def test_a_missing_key_names_its_variable(root: Path, server: FakeJudge) -> None:
    server.behave = lambda asked: Sent(b"", 401)
    with pytest.raises(W2SError, match="no key is in OPENAI_API_KEY"):
        run(root, server.endpoint)


def test_a_key_that_no_header_can_hold_is_refused_unseen(server: FakeJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nx: y")
    with pytest.raises(W2SError, match="OPENAI_API_KEY") as caught:
        client(server)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:80",
        "ftp://host",
        "http://",
        f"http://u:{KEY}@host/v1",
        "file:///x",
        "http://host:99999",
        "http://[host",
        "http://a b",
        "http://h?k=1",
    ],
)
def test_an_endpoint_must_be_a_plain_address(endpoint: str) -> None:
    with pytest.raises(W2SError, match="--endpoint") as caught:
        Client(endpoint, "m")
    assert KEY not in str(caught.value)


def test_a_server_that_is_down_is_given_up_after_some_questions(root: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    status, said = run(root, f"http://127.0.0.1:{port}/v1")
    assert status == 1
    assert "no verdict on 20 questions: ConnectError: [Errno 111] Connection refused" in said
    assert f"no verdict on {CALLS - 20} questions: not asked" in said
    assert f"{CALLS} questions are left" in said


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_nothing_answered_is_asked_twice(
    how: signal.Signals, root: Path, server: FakeJudge
) -> None:
    reached, hang = threading.Event(), threading.Event()

    def stuck(asked: Asked) -> Sent:
        if asked.number >= 10:
            reached.set()
            hang.wait(30)
        return honest(asked)

    server.behave = stuck
    command = [sys.executable, "-m", "benchmark.cli", "judge", str(root), "--endpoint", server.endpoint]
    process = subprocess.Popen(
        [*command, "--model", "m", "--parallel", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert reached.wait(60)
    started = time.monotonic()
    process.send_signal(how)
    said = process.communicate(timeout=30)[0].decode()
    assert time.monotonic() - started < 10  # it doesn't wait for the answer
    if how == signal.SIGINT:
        assert process.returncode == 130, said
        assert "goes on from there" in said
    hang.set()
    answered = server.shown()[:10]
    server.behave = honest
    status, _ = run(root, server.endpoint)
    assert status == 0
    again = server.shown()[11:]
    assert len(again) == CALLS - 10
    assert not set(answered) & set(again)


def test_a_torn_last_line_is_tolerated_and_mended(root: Path, server: FakeJudge) -> None:
    run(root, server.endpoint)
    path = root / "raven" / JUDGEMENTS
    whole = path.read_bytes()
    server.asked.clear()
    path.write_bytes(whole[:-40])
    assert read_judged(root).problems == []
    status, _ = run(root, server.endpoint)
    assert (status, len(server.asked)) == (0, 1)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])  # whole but for its end: nothing is lost
    run(root, server.endpoint)
    assert len(server.asked) == 1
    assert path.read_bytes() == whole


def test_a_changed_reply_is_a_finding_and_judged_again(root: Path, server: FakeJudge) -> None:
    run(root, server.endpoint)
    publish(root, lambda line: None)
    assert check([root], root / "LEADERBOARD.md", stale_findings) == []
    write_replies(root, [make_reply("raven", 1, 0, 2, reply="better: 9")])
    findings = check([root], root / "LEADERBOARD.md", stale_findings)
    assert any("2 judgements" in finding and "example 2 of raven" in finding for finding in findings)
    assert any("stale" in finding for finding in findings)
    server.asked.clear()
    run(root, server.endpoint)
    assert [{a.first, a.second} for a in server.asked] == [{"better: 9", "chosen 5 to 2"}] * 2
    publish(root, lambda line: None)
    assert check([root], root / "LEADERBOARD.md", stale_findings) == []


def test_a_judgement_without_its_reply_is_a_finding_and_kept(root: Path, server: FakeJudge) -> None:
    run(root, server.endpoint)
    before = (root / "raven" / JUDGEMENTS).read_bytes()
    (root / "raven" / REPLIES).unlink()
    run(root, server.endpoint)
    assert any("no such reply" in finding for finding in check([root], root / "LEADERBOARD.md", stale_findings))
    assert (root / "raven" / JUDGEMENTS).read_bytes() == before


def test_results_do_not_depend_on_the_order_of_answers(root: Path, tmp_path: Path, server: FakeJudge) -> None:
    other = shutil.copytree(root, tmp_path / "other" / "demo")
    run(root, server.endpoint, parallel=1)
    server.behave = lambda asked: Sent(honest(asked).content, pause=(asked.number * 7 % 5) / 500)
    run(other, server.endpoint, parallel=8)
    assert files(root) == files(other)


def test_another_judge_is_asked_anew(root: Path, server: FakeJudge) -> None:
    run(root, server.endpoint)
    run(root, server.endpoint, model="other")
    assert len(server.asked) == 2 * CALLS


def test_two_runs_are_kept_apart(root: Path, server: FakeJudge) -> None:
    with ResultStore(root).lock(), pytest.raises(W2SError, match="another run is writing"):
        run(root, server.endpoint)


# --- what is chosen, and what it costs -------------------------------------------------------------------------------


def test_a_dry_run_says_what_it_costs_and_asks_nothing(root: Path, server: FakeJudge) -> None:
    before = files(root)
    status, said = run(root, server.endpoint, dry_run=True, prices=(2.0, 10.0))
    assert status == 0
    assert server.asked == []
    assert files(root) == before
    assert f"{CALLS} calls" in said
    run(root, server.endpoint, methods=["raven"])
    status, later = run(root, server.endpoint, dry_run=True, prices=(2.0, 10.0))
    assert "72 calls (36 replies" in later
    characters = sum(len(message["content"]) for asked in server.asked for message in asked.body["messages"])
    raven = {"model": "new", "methods": ["raven"]}
    _, said = run(root, server.endpoint, dry_run=True, **raven, prices=(3e6, 1e6))
    assert f"about {characters // 4:,} tokens in (characters / 4), at most {24 * 8} tokens out" in said
    assert f"cost about {3 * (characters // 4) + 24 * 8:,.2f}" in said
    with pytest.raises(W2SError, match="price"):
        run(root, server.endpoint, dry_run=True, prices=(2.0, None))


def test_a_limit_takes_the_same_prompts_for_all_methods(root: Path, server: FakeJudge) -> None:
    run(root, server.endpoint, limit=2)
    first = {asked.prompt for asked in server.asked}
    assert len(first) == 2
    assert len(server.asked) == 2 * 2 * (2 + 6)  # orders x prompts x students
    _, said = run(root, server.endpoint, limit=4)
    assert first < {asked.prompt for asked in server.asked}
    assert len(server.asked) == 4 * 2 * (2 + 6)
    assert "(8/12)" in said
    assert "(24/36)" in said


def test_a_method_with_fewer_seeds_is_marked(root: Path, server: FakeJudge) -> None:
    write_replies(root, [make_reply("raven", 2, 0, example) for example in EXAMPLES])
    fill(ResultStore(root), [Task("pairs", "preference", "accuracy")], ("raven",), range(2, 3), ("ood",))
    _, said = run(root, server.endpoint)
    marked = {line.split()[2]: "†" in line for line in said.splitlines() if line.startswith("pairs")}
    assert marked == {"raven": False, "naive": True}


def test_globs_choose_and_unknown_names_are_refused(root: Path, server: FakeJudge) -> None:
    run(root, server.endpoint, methods=["rav*"], tasks=["p*"])
    assert len(server.asked) == 24
    with pytest.raises(W2SError, match="did you mean 'raven'"):
        run(root, server.endpoint, methods=["ravens"])
    with pytest.raises(W2SError, match="unknown task"):
        run(root, server.endpoint, tasks=["pears"])


def test_replies_without_a_record_are_not_judged(root: Path, server: FakeJudge) -> None:
    write_replies(root, [make_reply("raven", 7, 0, 0), make_reply("raven", 0, 0, 0, setting="0" * 12)])
    status, _ = run(root, server.endpoint)
    assert (status, len(server.asked)) == (0, CALLS)


def test_a_folder_without_replies_says_what_to_do(root: Path, server: FakeJudge) -> None:
    for path in root.glob(f"*/{REPLIES}"):
        path.unlink()
    with pytest.raises(W2SError, match="w2s run --replies"):
        run(root, server.endpoint)


def test_the_key_goes_to_the_server_and_nowhere_else(
    root: Path, server: FakeJudge, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def telling(asked: Asked) -> Sent:
        assert asked.headers["Authorization"] == f"Bearer {KEY}"
        return Sent(f"bad key {KEY}".encode(), 500) if asked.number % 9 == 0 else honest(asked)

    server.behave = telling
    status, said = run(root, server.endpoint, backoff=Backoff(1, 0.001))
    assert status == 1
    assert "status 500 (bad key ***)" in said
    publish(root, lambda line: None)
    output = capfd.readouterr()
    assert KEY not in said + output.out + output.err + repr(client(server))
    assert not [name for name, content in files(root).items() if KEY.encode() in content]


# --- the leaderboard and the files -----------------------------------------------------------------------------------


def test_the_leaderboard_changes_only_where_there_are_judgements(root: Path, server: FakeJudge) -> None:
    with_replies = render(ResultStore(root))
    for path in root.glob(f"*/{REPLIES}"):
        path.rename(path.with_suffix(".away"))
    assert render(ResultStore(root)) == with_replies
    assert "Judged" not in with_replies
    for path in root.glob("*/*.away"):
        path.rename(path.with_name(REPLIES))

    run(root, server.endpoint, model="judge_one")
    run(root, server.endpoint, model="judge-two", methods=["raven"])
    page = render(ResultStore(root))
    start, end = page.index("## Judged win rate"), page.index("## Learned weights")
    assert page[:start] + page[end:] == with_replies
    section = page[start:end]
    assert "judge\\_one (prompt version 1)" in section
    assert "judge-two (prompt version 1)" in section
    rows = [line for line in section.splitlines() if line.startswith("| pairs")]
    assert [("`raven`" in row, "not judged" in row) for row in sorted(rows)] == [(False, True), (True, False)]
    assert render(ResultStore(root)) == page


def test_replies_are_merged_by_identity(tmp_path: Path) -> None:
    one, two, three = (make_reply("raven", 0, 0, example) for example in (10, 9, 8))
    write_replies(tmp_path, [one, two])
    write_replies(tmp_path, [three, make_reply("raven", 0, 0, 10, reply="new"), make_reply("naive", 0, 1, 10)])
    replies, problems = read_replies(tmp_path)
    assert problems == []
    assert [(key.record.method, key.example) for key in sorted(replies)] == [
        ("naive", 10),
        ("raven", 8),
        ("raven", 9),
        ("raven", 10),
    ]
    assert replies[one.key].reply == "new"
    lines = (tmp_path / "raven" / REPLIES).read_text().splitlines()
    assert [json.loads(line)["example"] for line in lines] == [8, 9, 10]
    write_replies(tmp_path, [two])
    assert (tmp_path / "raven" / REPLIES).read_text().splitlines() == lines


def test_replies_hold_any_text(tmp_path: Path) -> None:
    odd = make_reply("raven", 0, 0, 1, reply='"\u2028\x85\x0b\r\n\n\t\0 {}é\\', prompt="", reference="\ufeff")
    assert odd.text_sha256 == make_reply("raven", 5, 0, 1, reply=odd.reply, prompt="", reference="\ufeff").text_sha256
    write_replies(tmp_path, [odd, make_reply("raven", 0, 0, 2)])
    assert read_replies(tmp_path)[0][odd.key] == odd
    assert read_replies(tmp_path)[1] == []


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        ({"example": "3"}, "raven/replies.jsonl:2: example: "),
        ({"seed": -1}, "raven/replies.jsonl:2: seed: "),
        ({"extra": 1}, "raven/replies.jsonl:2: extra: "),
        ({"method": "naive"}, "raven/replies.jsonl:2: method: found 'naive', expected the folder's name"),
        ({"example": 1}, "raven/replies.jsonl:2: repeats line 1"),
    ],
)
def test_a_bad_line_is_named_and_does_not_stop_the_rest(tmp_path: Path, edit: dict[str, Any], problem: str) -> None:
    write_replies(tmp_path, [make_reply("raven", 0, 0, example) for example in (1, 2, 3)])
    path = tmp_path / "raven" / REPLIES
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **edit})
    path.write_text("\n".join(lines) + "\n")
    replies, problems = read_replies(tmp_path)
    assert [key.example for key in sorted(replies)] == [1, 3]
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_replies_are_typed() -> None:
    with pytest.raises(ValidationError):
        make_reply("raven", 0, 0, 1, condition="elsewhere")
    with pytest.raises(ValidationError):
        make_reply("raven", 0, 0, 1).reply = "other"


def test_a_run_again_keeps_replies_and_judgements(root: Path, server: FakeJudge) -> None:
    """Writing results of the same folder touches neither file."""
    run(root, server.endpoint)
    before = {name: content for name, content in files(root).items() if name.endswith((REPLIES, JUDGEMENTS))}
    assert len(before) == 4
    store, task = ResultStore(root), Task("pairs", "preference", "accuracy")
    evaluated = evaluation(task, "ood", SEEDS)
    with store.lock():
        store.write_unit(evaluated, [entry(task, evaluated, "raven", seed) for seed in SEEDS])
    assert before.items() <= files(root).items()


def test_the_command_line(root: Path, server: FakeJudge) -> None:
    from typer.testing import CliRunner

    from benchmark.cli import app

    arguments = ["judge", str(root), "--endpoint", server.endpoint, "--model", "m", "--methods", "raven"]
    dry = CliRunner().invoke(app, [*arguments, "--dry-run", "--price-in", "1", "--price-out", "2"])
    assert (dry.exit_code, len(server.asked)) == (0, 0)
    assert dry.stdout.startswith("24 calls")
    real = CliRunner().invoke(
        app, [*arguments, "--parallel", "2", "--timeout", "5", "--limit", "3"], env=dict(os.environ)
    )
    assert real.exit_code == 0, real.output
    assert len(server.asked) == 12
    assert "raven" in real.stdout
    bad = CliRunner().invoke(app, ["judge", str(root), "--endpoint", "nowhere", "--model", "m"])
    assert bad.exit_code == 2
    assert bad.stderr.startswith("error: --endpoint")


def test_a_kill_while_a_unit_is_written_leaves_no_old_reply_to_a_new_record(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, store = Task("pairs", "preference", "accuracy", fingerprint="new"), ResultStore(root)
    evaluated = evaluation(task, "ood", SEEDS)
    entries = [entry(task, evaluated, "raven", seed) for seed in SEEDS]
    kept = {key for key in read_replies(root)[0] if key.record.method == "naive"}

    write = results.atomic_write

    def stop(path: Path, data: bytes, folder: int | None = None) -> None:
        write(path, data, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, store.lock():
        killed.setattr(results, "atomic_write", stop)
        with pytest.raises(KeyboardInterrupt):
            runner._write(UnitResult(Unit(task.name, "ood", ()), evaluated, entries), store)
    with store.lock():
        found = store.load()
    assert {key.seed for key in found.records if key.method == "raven"} == set(SEEDS)
    assert found.records[entries[0][0].key].data_fingerprint == "new"
    assert set(read_replies(root)[0]) == kept
