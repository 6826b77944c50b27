"""Whether `make test-wilds` is due: it needs 6.5 GB of its own, so CI runs it when something that it covers has changed
since it last passed, and otherwise once a day of work. Exit status 0 if it is due, with the reason; 1 if not.

`.passed`, beside this file, says when it last passed and on what; `make test-wilds` writes it, and it is committed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PASSED = HERE / ".passed"
COVERED = (  # paths of git
    "constraints-wilds.txt",
    "benchmark/assets/archives.py",
    "benchmark/assets/pretrained.py",
    "benchmark/assets/unpack.py",
    "benchmark/core/inputs.py",
    "benchmark/core/metrics.py",
    "benchmark/core/scoring.py",
    "benchmark/encoders/devices.py",
    "benchmark/encoders/images.py",
    "benchmark/encoders/vision.py",
    "benchmark/supervisors/language.py",
    "tasks/_language.py",
    "tasks/_shared.py",
    "tasks/_torchvision_models.py",
    "tasks/_wilds*.py",
    "tasks/wilds_*.py",
    "tests/support/miniature.py",
    "tests/support/small_cli.py",
    "tests/with_wilds/*.py",
)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def covered() -> str:
    """A hash of the names and contents of all covered files that git knows, as they are now."""
    found = hashlib.sha256()
    for name in sorted(filter(None, _git("ls-files", "-z", "--", *COVERED).split("\0"))):
        file = ROOT / name
        found.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None}\n".encode())
    return found.hexdigest()


def due() -> str | None:
    """The reason, if it is."""
    if not PASSED.exists():
        return "they have never passed"
    day, passed_on = PASSED.read_text().split()
    if passed_on != covered():
        return f"what they cover has changed since {day}"
    if date.fromisoformat(_git("log", "-1", "--format=%cs").strip()) > date.fromisoformat(day) + timedelta(days=1):
        return f"they last passed on {day}, more than a day before the last commit"
    return None


if __name__ == "__main__":
    if sys.argv[1:] == ["--passed"]:
        PASSED.write_text(f"{datetime.now(UTC):%Y-%m-%d} {covered()}\n")
        sys.exit()
    why = due()
    print(f"tests with WILDS: {'due: ' + why if why else 'not due'}")
    sys.exit(why is None)
