"""One question to a judge behind an OpenAI-compatible endpoint, asked until it answers or is given up.

What may pass by itself (a timeout, 408, 425, 429, 5xx, a refused connection, an answer that makes no sense) is asked
again a few times and then is a `Failure`. What can't (a wrong key, address or model) is a `W2SError`: it would be the
same for every other question.
"""

import json
import os
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from benchmark.base.errors import W2SError
from benchmark.judging.prompt import MAX_TOKENS, Verdict, messages, parse_verdict

_PASSING = frozenset({408, 409, 425, 429})  # and every 5xx
_LARGEST = 2**20  # bytes of a response; an answer has some hundred
_SHOWN = 200  # characters of what a server says that are repeated


@dataclass(frozen=True)
class Failure:
    """A question that got no verdict, and why."""

    reason: str


@dataclass(frozen=True)
class Backoff:
    """How often a question is asked, and the seconds between: `first`, doubled each time, at most `longest`."""

    tries: int = 5
    first: float = 1.0
    longest: float = 60.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds after the attempt (from 0); jitter keeps questions that failed together apart."""
        return min(self.longest, self.first * 2.0**attempt) * rng.uniform(0.5, 1.0)


@dataclass(eq=False)
class Client:
    """Asks one judge. Safe to use from several threads.

    Args:
        endpoint: base address, e.g. http://localhost:8000/v1.
        key_variable: environment variable with the key; without one, none is sent. The key goes nowhere else.
        timeout: seconds for one attempt, from the connection to the end of the response.
        stop: set when no more answers are wanted; nothing is asked again then.
    """

    endpoint: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    backoff: Backoff = Backoff()
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if not self.model:
            raise W2SError("--model: expected the judge's name, found nothing")
        _check_address(self.endpoint)
        key = os.environ.get(self.key_variable, "").strip()
        if not all("!" <= character <= "~" for character in key):
            raise W2SError(f"the key in {self.key_variable} holds spaces or characters other than printable ASCII")
        headers = {"User-Agent": "w2s-bench", **({"Authorization": f"Bearer {key}"} if key else {})}
        self.endpoint = self.endpoint.rstrip("/")
        self._key = key
        # it follows no redirect, which would turn the question into a GET and might carry the key to another host
        self._http = httpx2.Client(headers=headers, timeout=self.timeout)

    def ask(self, prompt: str, first: str, second: str, seed: int) -> Verdict | Failure:
        """Which of two replies to a prompt is better; `seed` fixes the jitter.

        Raises:
            W2SError: no question can succeed: the key, the address or the request itself is refused.
        """
        question = {"messages": messages(prompt, first, second), "temperature": 0, "max_tokens": MAX_TOKENS}
        rng = random.Random(seed)
        reason = ""
        for attempt in range(self.backoff.tries):
            asked_to_wait = 0.0
            try:
                response, content = self._post({"model": self.model, **question})
                if response.is_success:
                    found = _verdict(content)
                    if not isinstance(found, Failure):
                        return found
                    reason = found.reason
                else:
                    said = self._said(content)
                    if response.status_code not in _PASSING and response.status_code < 500:
                        raise W2SError(self._refusal(response.status_code, said))
                    reason = f"status {response.status_code}{said}"
                    asked_to_wait = _retry_after(response.headers.get("Retry-After", ""))
                    if asked_to_wait > self.backoff.longest:
                        return Failure(f"{reason}, asked to wait longer than {self.backoff.longest:g} s")
            except httpx2.TimeoutException:
                reason = f"no answer within {self.timeout:g} s"
            except httpx2.HTTPError as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
            last = attempt == self.backoff.tries - 1
            if last or self.stop.wait(max(self.backoff.delay(attempt, rng), asked_to_wait)):
                break
        return Failure(reason)

    def _post(self, body: dict[str, Any]) -> tuple[httpx2.Response, bytes]:
        """The response and its content, of which no more is read than makes sense."""
        deadline, content = time.monotonic() + self.timeout, b""
        with self._http.stream("POST", f"{self.endpoint}/chat/completions", json=body) as response:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > _LARGEST:
                    break
                if time.monotonic() > deadline:  # a byte now and then never exceeds the client's own time-out
                    raise httpx2.ReadTimeout("")
        return response, content

    def _said(self, content: bytes) -> str:
        """What the server says about an error, as ' (text)'; without the key, which some repeat."""
        text = content.decode(errors="replace")
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            text = str(json.loads(text)["error"]["message"])
        text = " ".join(text.split())
        if self._key:
            text = text.replace(self._key, "***")
        return f" ({text[:_SHOWN]})" if text else ""

    def _refusal(self, code: int, said: str) -> str:
        if code in (401, 403):
            mend = (
                f"the key in {self.key_variable} is not accepted"
                if self._key
                else f"no key is in {self.key_variable}; put it there, or name its variable with --key-variable"
            )
        elif 300 <= code < 400:
            mend = "it redirects; give the address that it redirects to as --endpoint"
        elif code == 404:
            mend = "is --endpoint the base address (it often ends in /v1), and --model one that is served there?"
        else:
            mend = f"it does not accept the request for model '{self.model}'"
        return f"judge at {self.endpoint}: status {code}{said}: {mend}"


def _check_address(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        good = False
    if not good or set("@?#") & set(endpoint) or not all("!" <= character <= "~" for character in endpoint):
        shown = "" if "@" in endpoint else f" {endpoint!r}"  # a password may stand before the @
        raise W2SError(
            f"--endpoint{shown}: expected a base address such as http://localhost:8000/v1, no user, no query"
        )


def _verdict(content: bytes) -> Verdict | Failure:
    if len(content) > _LARGEST:
        return Failure("the response is too long for a chat completion")
    try:
        answer = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return Failure("the response is no chat completion")
    if not isinstance(answer, str):
        return Failure("the response holds no text")
    return parse_verdict(answer) or Failure("the answer is neither A, B nor tie")


def _retry_after(text: str) -> float:
    """Seconds from a Retry-After header, a number or a date (RFC 9110, section 10.2.3); 0 when there is none."""
    if text.strip().isdigit():
        return float(text)
    with suppress(ValueError, TypeError):  # a date that can't be read, or without its zone
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    return 0.0
