"""A judge for tests: an HTTP server on this machine that behaves as it is told."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Asked:
    """One request: how many came before it, and what was shown."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class Sent:
    """A response; `pause` seconds before it, or before each byte if `trickle`; without a status the line is cut."""

    content: bytes
    status: int | None = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    trickle: bool = False


Behaviour = Callable[[Asked], Sent]


def says(answer: str | None) -> Sent:
    """A chat completion."""
    message = {"role": "assistant", "content": answer}
    return Sent(json.dumps({"choices": [{"index": 0, "message": message}]}).encode())


def quality(text: str) -> int:
    """What an honest judge goes by: the number in a text."""
    found = re.search(r"\d+", text)
    assert found, text
    return int(found[0])


def honest(asked: Asked) -> Sent:
    """Prefers the higher number, wherever it stands."""
    a, b = quality(asked.first), quality(asked.second)
    return says("tie" if a == b else "A" if a > b else "B")


def first_always(asked: Asked) -> Sent:
    """Prefers what is shown first."""
    return says("A")


class FakeJudge:
    """A server on a port of its own while the context lasts; `asked` holds all requests."""

    def __init__(self, behave: Behaviour = honest) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def shown(self) -> list[tuple[str, str, str]]:
        """Prompt, A and B of every request."""
        return [(asked.prompt, asked.first, asked.second) for asked in self.asked]

    def _note(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked:
        question = body["messages"][-1]["content"]
        shown = re.search(
            r"<conversation>\n(.*)\n</conversation>.*<reply_A>\n(.*)\n</reply_A>.*<reply_B>\n(.*)\n</reply_B>",
            question,
            re.DOTALL,
        )
        assert shown, question
        with self._lock:
            asked = Asked(len(self.asked), path, headers, body, *shown.groups())
            self.asked.append(asked)
        return asked

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                sent = judge.behave(judge._note(self.path, dict(self.headers), body))
                if sent.status is None:
                    self.close_connection = True
                    return
                if not sent.trickle:
                    time.sleep(sent.pause)
                try:
                    self.send_response(sent.status)
                    for name, value in sent.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(sent.content)))
                    self.end_headers()
                    for at in range(len(sent.content)) if sent.trickle else ():
                        self.wfile.write(sent.content[at : at + 1])
                        time.sleep(sent.pause)
                    if not sent.trickle:
                        self.wfile.write(sent.content)
                except OSError:  # who asked has gone
                    pass

            def log_message(self, *args: object) -> None:
                pass

        return Handler
