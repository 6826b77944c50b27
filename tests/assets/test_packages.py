"""Fetching archives with pip, from a folder of archives in place of an index."""

import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmark.assets import packages as fetch
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.paths import using

PYPROJECT = """
[build-system]
requires = ["a-build-tool"]  # which the index lacks
build-backend = "backend"
backend-path = ["."]
[project]
name = "w2s-sample-data"
version = "1.0"
"""
# What pip runs of an archive; it leaves a trace, to see when.
BACKEND = """
import os, pathlib
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    pathlib.Path(os.environ["W2S_TEST_TRACE"]).touch()
    info = pathlib.Path(folder, "w2s_sample_data-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: w2s-sample-data\\nVersion: 1.0\\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\n")
    return info.name
def build_wheel(*args, **kwargs):
    raise RuntimeError("nothing is built")
"""


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder with one source archive, which pip is told to take instead of any index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    with tarfile.open(folder / "w2s_sample_data-1.0.tar.gz", "w:gz") as tar:
        for name, text in (("pyproject.toml", PYPROJECT), ("backend.py", BACKEND), ("data.txt", "42")):
            member = tarfile.TarInfo(f"w2s_sample_data-1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("W2S_TEST_TRACE", str(tmp_path / "trace"))
    fetch._verified.cache_clear()
    yield folder
    fetch._verified.cache_clear()


def digest(index: Path) -> str:
    return hashlib.sha256((index / "w2s_sample_data-1.0.tar.gz").read_bytes()).hexdigest()


def get(sha256: str) -> Path:
    return fetch.fetch_sdist("w2s-sample-data", "1.0", sha256, licence="MIT", size="1 kB")


def test_downloads_once_and_says_so(index, tmp_path, capfd, monkeypatch):
    path = get(digest(index))
    assert path == tmp_path / "cache" / "downloads" / "w2s-sample-data-1.0.tar.gz"
    assert path.read_bytes() == (index / "w2s_sample_data-1.0.tar.gz").read_bytes()
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    for word in ("w2s-sample-data 1.0", "1 kB", "MIT", digest(index)):
        assert word in output.err
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip ran again"))
    assert get(digest(index)) == path
    fetch._verified.cache_clear()  # as another process would
    assert get(digest(index)) == path
    assert capfd.readouterr().err == ""
    assert sorted(p.name for p in path.parent.iterdir()) == ["w2s-sample-data-1.0.lock", path.name]


def test_a_wheel_is_fetched_and_read_where_it_is(index):
    """Beside a source archive of the same version; nothing is installed or run."""
    name = "w2s_sample_data-1.0"
    with zipfile.ZipFile(index / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: w2s-sample-data\nVersion: 1.0\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("w2s_sample_data/data.txt", "42")
    sha256 = hashlib.sha256((index / f"{name}-py3-none-any.whl").read_bytes()).hexdigest()
    path = fetch.fetch_wheel("w2s-sample-data", "1.0", sha256, licence="MIT", size="1 kB")
    assert path.name == "w2s-sample-data-1.0.whl"
    with zipfile.ZipFile(path) as wheel:
        assert wheel.read("w2s_sample_data/data.txt") == b"42"
    assert get(digest(index)).suffixes[-1] == ".gz"


def test_an_archive_with_another_hash_is_never_run_nor_kept(index, tmp_path):
    with pytest.raises(W2SError, match="another archive than the one with SHA-256 0000") as error:
        get("0" * 64)
    assert not isinstance(error.value, NotAvailable)  # not just absent: this must not pass as "not run"
    assert not (tmp_path / "trace").exists()
    assert [p.suffix for p in (tmp_path / "cache" / "downloads").iterdir()] == [".lock"]


def test_the_hash_is_compared_again_after_pip(index, tmp_path, monkeypatch):
    def careless_pip(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        (folder / "w2s_sample_data-1.0.tar.gz").write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", careless_pip)
    with pytest.raises(W2SError, match=r"pip brought SHA-256 \w+, expected"):
        get(digest(index))
    assert [p.suffix for p in (tmp_path / "cache" / "downloads").iterdir()] == [".lock"]


def test_a_broken_archive_in_the_cache_is_replaced(index, capfd):
    path = get(digest(index))
    path.write_bytes(b"broken")
    fetch._verified.cache_clear()
    assert get(digest(index)).read_bytes() != b"broken"
    assert "is not the known archive" in capfd.readouterr().err


def test_an_archive_put_there_by_hand_is_taken(index, tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    data = (index / "w2s_sample_data-1.0.tar.gz").read_bytes()
    (folder / "w2s-sample-data-1.0.tar.gz").write_bytes(data)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)  # also where nothing can be written
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip ran"))
    monkeypatch.setattr(fetch, "FileLock", lambda path: pytest.fail("locked"))
    assert get(digest(index)).read_bytes() == data
    folder.chmod(stat.S_IRWXU)


def test_a_plan_fetches_nothing(index, capfd, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip ran"))
    with using(fetch=False), pytest.raises(NotAvailable) as refused:
        get(digest(index))
    for words in ("w2s-sample-data 1.0", "1 kB", "licence MIT", digest(index), "a run fetches it with pip"):
        assert words in str(refused.value)
    assert capfd.readouterr().err == ""


def test_a_plan_reads_what_is_here(index):
    path = get(digest(index))
    fetch._verified.cache_clear()
    with using(fetch=False):
        assert get(digest(index)) == path


def test_a_failure_is_one_line_with_the_command_to_run(index):
    with pytest.raises(NotAvailable) as error:
        fetch.fetch_sdist("w2s-sample-data", "2.0", "0" * 64, licence="MIT", size="1 kB")
    message = str(error.value)
    assert "\n" not in message
    assert "No matching distribution" in message
    assert "python -m pip download --no-deps --no-build-isolation --no-binary w2s-sample-data --dest " in message
    assert message.endswith("w2s-sample-data==2.0")


def test_pip_that_is_not_there(index, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(NotAvailable, match=r"No module named pip\); run by hand: python -m pip download"):
        get(digest(index))


def test_a_cache_that_cannot_be_written(index, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "file"))
    with pytest.raises(W2SError, match=r"cannot write to the cache.*W2S_CACHE"):
        get(digest(index))


def test_two_processes_at_once_download_once(index, tmp_path):
    code = (
        "from benchmark.assets.packages import fetch_sdist\n"
        f"print(fetch_sdist('w2s-sample-data', '1.0', '{digest(index)}', 'MIT', '1 kB'))"
    )
    root = Path(__file__).parents[2]

    def process(_):
        return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(process, range(2)))
    assert len({d.stdout for d in done}) == 1
    assert sum(d.stderr.count("downloading") for d in done) == 1


def test_packages_that_are_not_installed():
    assert fetch.missing_packages({"json": "json", "os": "os"}) is None
    line = fetch.missing_packages({"json": "json", "no_such_module": "no-such", "nor_this": "nor-this"})
    assert line == "not installed: no-such, nor-this; run: pip install -c constraints.txt no-such nor-this"
    with pytest.raises(NotAvailable, match=r"pip install -c constraints\.txt no-such$"):
        fetch.package_folder("no_such_module", "no-such")
