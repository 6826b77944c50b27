"""One question to a judge behind an OpenAI-compatible endpoint, asked until it answers or is given up.

What may pass by itself (a timeout, 408, 425, 429, 5xx, a refused connection, an answer that makes no sense) is asked
again a few times and then is a `Failure`. What can't (a wrong key, address or model) is a `W2SError`: it would be the
same for every other question.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

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


BACKOFF = Backoff()


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would turn the question into a GET and might carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_open = build_opener(_NoRedirect).open


@dataclass(frozen=True)
class Client:
    """Asks one judge. Safe to use from several threads.

    Args:
        endpoint: base address, e.g. http://localhost:8000/v1.
        key_variable: environment variable with the key; without one, none is sent. The key goes nowhere else.
        timeout: seconds for one attempt, from the connection to the end of the response.
        wait: waits that many seconds; returns True to give up at once.
    """

    endpoint: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    backoff: Backoff = BACKOFF
    wait: Callable[[float], bool] = field(default_factory=lambda: threading.Event().wait)
    _key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.model:
            raise W2SError("--model: expected the judge's name, found nothing")
        _check_address(self.endpoint)
        key = os.environ.get(self.key_variable, "").strip()
        if not all("!" <= character <= "~" for character in key):
            raise W2SError(f"the key in {self.key_variable} holds spaces or characters other than printable ASCII")
        object.__setattr__(self, "endpoint", self.endpoint.rstrip("/"))
        object.__setattr__(self, "_key", key)

    def ask(self, prompt: str, first: str, second: str, seed: int) -> Verdict | Failure:
        """Which of two replies to a prompt is better; `seed` fixes the jitter.

        Raises:
            W2SError: no question can succeed: the key, the address or the request itself is refused.
        """
        request = self._request(prompt, first, second)
        rng = random.Random(seed)
        reason = ""
        for attempt in range(self.backoff.tries):
            asked_to_wait = 0.0
            deadline = time.monotonic() + self.timeout
            try:
                with _open(request, timeout=self.timeout) as response:
                    return self._verdict(_read(response, deadline))
            except HTTPError as error:
                with error:
                    said = self._said(error)
                    if error.code not in _PASSING and error.code < 500:
                        raise W2SError(self._refusal(error.code, said)) from None
                    asked_to_wait = _retry_after(error.headers.get("Retry-After", ""))
                reason = f"status {error.code}{said}"
                if asked_to_wait > self.backoff.longest:
                    return Failure(f"{reason}, asked to wait longer than {self.backoff.longest:g} s")
            except (TimeoutError, URLError, OSError, http.client.HTTPException) as error:
                reason = self._unreached(error)
            except _Garbage as error:
                reason = str(error)
            last = attempt == self.backoff.tries - 1
            if last or self.wait(max(self.backoff.delay(attempt, rng), asked_to_wait)):
                break
        return Failure(reason)

    def _request(self, prompt: str, first: str, second: str) -> Request:
        body = {
            "model": self.model,
            "messages": messages(prompt, first, second),
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        headers = {"Content-Type": "application/json", "User-Agent": "w2s-bench"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return Request(f"{self.endpoint}/chat/completions", json.dumps(body).encode(), headers, method="POST")

    def _verdict(self, content: bytes) -> Verdict:
        try:
            answer = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise _Garbage("the response is no chat completion") from None
        if not isinstance(answer, str):
            raise _Garbage("the response holds no text")
        verdict = parse_verdict(answer)
        if verdict is None:
            raise _Garbage("the answer is neither A, B nor tie")
        return verdict

    def _said(self, error: HTTPError) -> str:
        """What the server says about an error, as ' (text)'; without the key, which some repeat."""
        content = b""
        with suppress(OSError, http.client.HTTPException):
            content = error.read(_LARGEST)
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

    def _unreached(self, error: Exception) -> str:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            return f"no answer within {self.timeout:g} s"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        return f"{type(cause).__name__}: {' '.join(str(cause).split())[:_SHOWN]}"


class _Garbage(Exception):
    """A response that is no verdict."""


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


def _read(response: Any, deadline: float) -> bytes:
    """The body, piece by piece: a server that sends a byte now and then would never exceed a socket's timeout."""
    content = b""
    while piece := response.read1(2**16):
        content += piece
        if len(content) > _LARGEST:
            raise _Garbage("the response is too long for a chat completion")
        if time.monotonic() > deadline:
            raise TimeoutError
    return content


def _retry_after(text: str) -> float:
    """Seconds from a Retry-After header, a number or a date (RFC 9110, section 10.2.3); 0 when there is none."""
    if text.strip().isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
