"""The HH-RLHF pairs: read from a local folder or the hub, checked, and split into prompt and replies."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.api import NotAvailable, Prompted, W2SError, missing_packages, numpy_rng
from benchmark.assets.hub import snapshot
from benchmark.base.notices import notice
from benchmark.base.paths import data_root, settings
from tasks._shared import connected_groups

HUB_ID = "Anthropic/hh-rlhf"
SPLITS = ("train", "test")
_TURN = "\n\nAssistant:"
_PREPARATION = 1  # raise when pairs, sides or groups come out otherwise


class Pairs(NamedTuple):
    """One subset.

    Attributes:
        replies: 2n, pair i at 2i and 2i + 1; which of them is the chosen one is shuffled.
        labels: (n,) 0 when the first is chosen, 1 when the second is, -1 when the pair is left out.
        groups: (n,) pairs of conversations that begin alike are in one group.
        fingerprint: hash of the texts and the preparation.
    """

    replies: list[Prompted]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    fingerprint: str


def source(wanted: str | None) -> str:
    """Where the pairs come from: what the user names, `hh-rlhf` in the folder W2S_DATA, or the hub's id."""
    if wanted:
        folder = Path(wanted).expanduser()
        return str(folder) if folder.is_dir() else wanted
    local = (root := data_root()) and root / "hh-rlhf"
    return str(local) if local and local.is_dir() else HUB_ID


def missing(wanted: str | None, subsets: Sequence[str]) -> str | None:
    """One line that says what is not there, or None."""
    try:
        where = source(wanted)
        for subset in subsets:
            if Path(where).is_dir():
                _files(Path(where), subset)
            else:
                _from_hub(where, subset)
    except NotAvailable as error:
        return str(error)
    return None


@functools.cache
def read(wanted: str | None, subset: str) -> Pairs:
    """All pairs of a subset, `helpful-base` or `harmless-base`.

    Raises:
        NotAvailable: they are not on this machine. W2SError: a line is not of the expected form.
    """
    where = source(wanted)
    rows = _from_folder(Path(where), subset) if Path(where).is_dir() else _from_hub(where, subset)
    digest = hashlib.sha256(f"hh-rlhf|{subset}|{_PREPARATION}".encode())
    prompts, both, equal, apart = [], [], 0, 0
    for row in rows:
        digest.update(json.dumps([row["chosen"], row["rejected"]]).encode())
        (prompt, chosen), (other, rejected) = _split(row["chosen"]), _split(row["rejected"])
        equal += prompt == other and chosen == rejected
        apart += prompt != other
        prompts.append(prompt)
        both.append((chosen, rejected) if prompt == other and chosen != rejected else None)
    fingerprint = digest.hexdigest()
    if equal or apart:
        _say(
            f"hh-rlhf {subset}: {equal + apart} of {len(both)} pairs left out: {equal} with equal responses, "
            f"{apart} whose prompts differ"
        )
    swapped = numpy_rng("hh sides", fingerprint).integers(2, size=len(both))
    replies = []
    for prompt, pair, swap in zip(prompts, both, swapped, strict=True):
        for reply in (pair or ("", ""))[:: -1 if swap else 1]:
            replies.append(Prompted(prompt, reply))
    labels = np.where([pair is None for pair in both], -1, swapped).astype(np.int64)
    return Pairs(replies, labels, connected_groups([_opening(prompt) for prompt in prompts]), fingerprint)


def _split(conversation: str) -> tuple[str, str]:
    """Everything up to the last reply, and that reply."""
    at = conversation.rfind(_TURN)
    if at < 0:
        raise W2SError(f"hh-rlhf: a conversation without '{_TURN.strip()}' was found: {conversation[:60]!r}")
    return conversation[: at + len(_TURN)], conversation[at + len(_TURN) :]


def _opening(prompt: str) -> str:
    """The first request, in lower-case words: conversations that share it are near-copies."""
    return " ".join(prompt.partition(_TURN)[0].lower().split())


def _files(folder: Path, subset: str) -> list[Path]:
    """Those of the hub's layout (helpful-base/test.jsonl.gz), or side by side (helpful-base.test.jsonl.gz)."""
    found = [
        path
        for split in SPLITS
        for path in (folder / subset / f"{split}.jsonl.gz", folder / f"{subset}.{split}.jsonl.gz")
        if path.exists()
    ]
    if not found:
        raise NotAvailable(f"hh-rlhf: no {subset}/{{train,test}}.jsonl.gz (or {subset}.test.jsonl.gz) in {folder}")
    return found


def _from_folder(folder: Path, subset: str) -> Iterable[dict[str, Any]]:
    for path in _files(folder, subset):
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    yield _checked(json.loads(line), f"{path.name}:{number}")
        except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
            raise W2SError(f"hh-rlhf: {path} cannot be read ({error}); fetch it again") from error


def _from_hub(name: str, subset: str) -> Iterable[dict[str, Any]]:
    if lacking := missing_packages({"datasets": "datasets"}):
        raise NotAvailable(lacking)
    import datasets

    datasets.logging.set_verbosity_error()  # what matters is said below
    try:
        if settings().download:  # says what is coming, and compares it; the library finds it in the hub's cache then
            commit = snapshot(name, "dataset", [f"{subset}/*.jsonl.gz"]).name
            found = datasets.load_dataset(name, data_dir=subset, revision=commit)
        else:
            with _offline():
                found = datasets.load_dataset(name, data_dir=subset)
    except W2SError:
        raise
    except Exception as error:  # whatever the hub's client raises
        raise NotAvailable(
            f"data set '{name}' ({subset}) is not on this machine ({type(error).__name__}); run with --download, or "
            f"put {subset}/train.jsonl.gz and test.jsonl.gz into a folder and name it with --set hh_data=FOLDER"
        ) from None
    return [_checked(row, f"{name} {split}") for split in SPLITS if split in found for row in found[split]]


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """The hub's libraries ask nobody; they read their own switch for that once, when they are imported."""
    import datasets
    import huggingface_hub

    switches: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value


def _checked(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("chosen", "rejected")):
        raise W2SError(f"hh-rlhf: {where}: expected an object with the texts 'chosen' and 'rejected'")
    return row


def _say(line: str) -> None:
    if multiprocessing.parent_process() is None:  # once a run, not once a worker
        notice(line)
