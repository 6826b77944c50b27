"""Cards, the state of the local copy and downloads: all without `wilds`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import shutil
import socket
import ssl
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import tasks._wilds as wilds_data
from benchmark.assets.archives import Archive, download
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.core.registry import TASKS
from support import miniature
from support.planted import WRAPPINGS, pickles, watched
from tasks._wilds import CIVILCOMMENTS, DATA_SETS, lacking_data

PUBLISHED = wilds_data.EXAMPLES
NAMES = [data.name for data in DATA_SETS]
ARCHIVE = CIVILCOMMENTS.archive("CC0 1.0")
TASK_NAMES = [*NAMES, *(f"{name}-by-domain" for name in NAMES)]


@pytest.fixture(autouse=True)
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("W2S_DATA", raising=False)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_card_says_where_the_data_are_from(name):
    card, data = TASKS[name].card, next(d for d in DATA_SETS if d.name == name.removesuffix("-by-domain"))
    assert (
        len(card.classes) == {"iwildcam": 182, "camelyon17": 2, "fmow": 62, "amazon": 5, "civilcomments": 2}[data.name]
    )
    assert data.url in card.requires
    assert "GB" in card.requires or "MB" in card.requires
    assert card.licence
    assert card.citation
    assert "no data root" in (TASKS[name].missing() or "")


@pytest.mark.parametrize("name", TASK_NAMES)
def test_three_supervisors_with_their_own_validation(name):
    task = TASKS[name]
    supervisors = task.supervisors(0)
    assert len(supervisors) == 3
    parts = {domain for s in supervisors for domain in s.domains}
    assert parts == ({"train-1", "train-2", "train-3"} if name.endswith("-by-domain") else {"train"})
    for supervisor in supervisors:
        assert not set(supervisor.validation) & set(task.ind_domains)
        assert all(v[-2:] == supervisor.domains[0][-2:] for v in supervisor.validation if name.endswith("-by-domain"))


def test_a_missing_package_is_said_with_the_command(monkeypatch, root):
    monkeypatch.setattr(wilds_data, "find_spec", lambda name: None)
    monkeypatch.setenv("W2S_DATA", str(root))
    line = TASKS["fmow"].missing()
    assert line is not None
    assert f"complete in {root}" in line
    assert "pip install 'w2s-bench[wilds,lm]'" in line
    with pytest.raises(NotAvailable, match="not installed: wilds, torchvision"):
        TASKS["fmow"].domain("test")


@pytest.mark.parametrize("value", [5, True, None, ["a"]])
@pytest.mark.parametrize("name", ["camelyon17", "amazon"])
def test_a_data_root_that_is_no_folder(name, value):
    with pytest.raises(W2SError, match=r"option data_root=.*: expected a folder"):
        TASKS[name].configured({"data_root": value})


# --- the state of the local copy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", DATA_SETS, ids=NAMES)
def test_a_whole_copy_lacks_nothing(data, root):
    assert lacking_data(data, root) is None


@pytest.mark.parametrize("data", DATA_SETS, ids=NAMES)
def test_no_copy(data, tmp_path):
    line = lacking_data(data, tmp_path)
    assert line is not None
    assert f"{tmp_path / data.folder}: no such folder" in line
    assert f"w2s download {data.name} --data-root {tmp_path}" in line


@pytest.mark.parametrize("data", DATA_SETS, ids=NAMES)
def test_damaged_copies(data, root, tmp_path):
    def line() -> str:
        found = lacking_data(data, tmp_path)
        assert found is not None
        assert "\n" not in found
        return found

    folder = tmp_path / data.folder
    shutil.copytree(root / data.folder, folder)
    (tmp_path / f"{data.name}_unlabeled_v9.0").mkdir()  # WILDS's unlabelled data lie beside
    if data.images:
        pictures = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.[jp][pn]g"))
        for gone in pictures[:2]:
            (folder / gone).unlink()
        assert f"partial: 2 of {len(pictures):,} image files are missing" in line()
        assert any(f"the first is {gone}" in line() for gone in pictures[:2])
        shutil.rmtree(folder / pictures[0].split("/")[0])
        assert f"partial: {len(pictures):,} of {len(pictures):,} image files" in line()
    (folder / data.tables[-1]).unlink()
    assert f"partial: {data.tables[-1]} is missing" in line()
    (folder / data.proof).rename(folder / "RELEASE_v0.9.txt")
    assert f"found another version (RELEASE_v0.9.txt), expected {data.proof}" in line()
    (folder / "RELEASE_v0.9.txt").unlink()
    assert f"partial: {data.proof} is missing" in line()
    folder.rename(tmp_path / f"{data.name}_v0.9")
    assert f"found {data.name}_v0.9, expected {data.folder}" in line()


@pytest.mark.parametrize("cut", [1, 150])
@pytest.mark.parametrize(
    ("data", "table"), [(d, table) for d in DATA_SETS for table in d.tables], ids=lambda v: getattr(v, "name", v)
)
def test_a_table_that_was_cut_at_the_end_of_a_row(data, table, cut, root, tmp_path, monkeypatch):
    (tmp_path / data.folder).symlink_to(root / data.folder)
    assert lacking_data(data, tmp_path) is None
    (tmp_path / data.folder).unlink()
    shutil.copytree(root / data.folder, tmp_path / data.folder)
    path = tmp_path / data.folder / table
    with path.open(newline="") as file:
        whole = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(whole[:-cut])
    line = lacking_data(data, tmp_path) or ""
    if data.name == "fmow" and cut == 1:
        assert line == "", "the last rows are of images that no split uses; nothing can tell"
    else:
        least = 600 if data.name == "fmow" else len(whole) - 1
        assert f"partial: {table} has {len(whole) - 1 - cut:,} rows, expected at least {least:,}; " in line
    if data.name == "fmow" and cut > 1:  # its number of rows is not published, only that of labelled images
        monkeypatch.setattr(wilds_data, "EXAMPLES", {"fmow": 300})
        line = lacking_data(data, tmp_path) or ""
        assert "(it was cut: it has 456 rows, but there are images of later ones)" in line


def test_fewer_rows_than_published(root, monkeypatch):
    monkeypatch.setattr(wilds_data, "EXAMPLES", {"amazon": 1000})
    line = lacking_data(next(d for d in DATA_SETS if d.name == "amazon"), root) or ""
    assert "partial: reviews.csv has 660 rows, expected at least 1,000; unpack the archive again" in line


def test_published_numbers_of_examples():
    """Those of the cards' lines on size, where these say a total."""
    totals = {"iwildcam", "camelyon17", "fmow", "amazon", "civilcomments"}
    assert {name: TASKS[name].card.size.split()[0] for name in totals} == {
        name: f"{PUBLISHED[name]:,}" for name in totals
    }


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n", 0),
        ("a,b\n1,2\n", 1),
        ("a,b\n1,2", 1),
        ('a,b\n"x\ny","says ""no\n"""\n3,"\n\n"\n', 2),
        ("a,b\n" + '"' + "x\n" * 600_000 + '",2\n' + '"""\n""",1\n' * 200_000, 200_001),  # chunks end anywhere
    ],
    ids=["none", "one", "no last end", "quoted", "long"],
)
def test_rows_are_ends_of_lines_outside_quotes(tmp_path, text, rows):
    (tmp_path / "table.csv").write_text(text)
    assert wilds_data._count_rows(tmp_path / "table.csv", 0, 0) == rows


def test_an_unreadable_table(root, tmp_path):
    data = next(d for d in DATA_SETS if d.name == "camelyon17")
    shutil.copytree(root / data.folder, tmp_path / data.folder)
    (tmp_path / data.folder / "metadata.csv").write_text("patient,node\n" + "1,2\n" * 700)
    assert "metadata.csv can't be read" in (lacking_data(data, tmp_path) or "")


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["camelyon17", "amazon"])
def test_a_pickle_in_the_place_of_a_table_is_not_unpickled(name, wrapping, root, tmp_path):
    data = next(d for d in DATA_SETS if d.name == name)
    shutil.copytree(root / data.folder, tmp_path / data.folder)
    with watched(tmp_path) as watch:
        (tmp_path / data.folder / data.tables[0]).write_bytes(pickles(watch.witness)[wrapping])
        assert data.tables[0] in (lacking_data(data, tmp_path) or "")
        watch.assert_nothing_ran()


# --- downloads -------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """Serves one archive. `breaks_after`: bytes until the next connection breaks; `status`: of every answer."""

    archive: bytes
    status: int = 200
    ranges: bool = True
    breaks_after: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server(root) -> Iterator[Server]:
    serves = Server(packed(root / CIVILCOMMENTS.folder))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            serves.asked.append((self.path, wanted))
            if serves.status != 200:
                self.send_error(serves.status)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and serves.ranges else 0
            if start >= len(serves.archive):
                self.send_error(416)
                return
            body = serves.archive[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: serves.breaks_after])
            serves.breaks_after = None

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    serves.address = f"http://127.0.0.1:{http.server_port}"
    yield serves
    http.shutdown()
    http.server_close()


def packed(folder: Path, top: str = ".") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, arcname=top)
    return buffer.getvalue()


def get(server: Server, root: Path) -> list[str]:
    said: list[str] = []
    download(ARCHIVE, root, server.address, said.append)
    return said


def same(a: Path, b: Path) -> bool:
    names = {p.relative_to(a) for p in a.rglob("*")}
    return names == {p.relative_to(b) for p in b.rglob("*")} and all(
        (a / n).read_bytes() == (b / n).read_bytes() for n in names if (a / n).is_file()
    )


@pytest.mark.parametrize("top", [".", CIVILCOMMENTS.folder])
def test_download(server, root, tmp_path, top):
    server.archive = packed(root / CIVILCOMMENTS.folder, top)
    said = get(server, tmp_path / "new")
    assert server.asked == [(f"/{CIVILCOMMENTS.folder}.tar.gz", None)]
    sha256 = hashlib.sha256(server.archive).hexdigest()
    for words in ("90.6 MB", "licence: CC0 1.0", "no hash of it is published"):
        assert words in said[0]  # before anything is sent
    assert f"SHA-256 {sha256}" in said
    note = tmp_path / "new" / f"{CIVILCOMMENTS.folder}.tar.gz.sha256"
    assert note.read_text() == f"{sha256}  {CIVILCOMMENTS.folder}.tar.gz\n"
    assert same(root / CIVILCOMMENTS.folder, tmp_path / "new" / CIVILCOMMENTS.folder)
    left = {p.name for p in (tmp_path / "new").iterdir()} - {f"{CIVILCOMMENTS.folder}.lock"}
    assert left == {CIVILCOMMENTS.folder, note.name}


def test_what_comes_again_must_be_what_came_the_first_time(server, root, tmp_path):
    get(server, tmp_path)
    note, part = (tmp_path / f"{CIVILCOMMENTS.folder}.tar.gz.{ending}" for ending in ("sha256", "part"))
    first, before = hashlib.sha256(server.archive).hexdigest(), note.read_text()
    shutil.rmtree(tmp_path / CIVILCOMMENTS.folder)
    said = get(server, tmp_path)
    assert f"expected SHA-256 {first}, as the last time" in said[0]
    shutil.rmtree(tmp_path / CIVILCOMMENTS.folder)
    server.archive = packed(root / CIVILCOMMENTS.folder, "another")
    other = hashlib.sha256(server.archive).hexdigest()
    for _ in range(2):
        with pytest.raises(W2SError, match=f"came has SHA-256 {other}, expected {first} as the last time") as refused:
            get(server, tmp_path)
        assert str(part) in str(refused.value)
        assert str(note) in str(refused.value)
        assert not (tmp_path / CIVILCOMMENTS.folder).exists()
        assert note.read_text() == before
    note.unlink()
    said = get(server, tmp_path)
    assert not [line for line in said if " MB of " in line], "nothing is downloaded again"
    assert lacking_data(CIVILCOMMENTS, tmp_path) is None
    assert note.read_text().startswith(other)


def test_a_note_that_is_no_hash(server, tmp_path):
    (tmp_path / f"{CIVILCOMMENTS.folder}.tar.gz.sha256").write_text("<html>")
    with pytest.raises(W2SError, match=r"tar\.gz\.sha256: expected a SHA-256, found '<html>'"):
        get(server, tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server, root, tmp_path, ranges):
    server.breaks_after, server.ranges = 5000, ranges
    with pytest.raises(NotAvailable, match="have arrived and are kept"):
        get(server, tmp_path)
    assert not (tmp_path / CIVILCOMMENTS.folder).exists()
    get(server, tmp_path)
    assert [wanted for _, wanted in server.asked] == [None, "bytes=5000-"]
    assert same(root / CIVILCOMMENTS.folder, tmp_path / CIVILCOMMENTS.folder)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["Ctrl-C", "full"])
def test_what_has_arrived_outlives_a_stop_in_unpacking(server, root, tmp_path, monkeypatch, stop, ranges):
    def stopped(*args: Any, **options: Any) -> None:
        raise stop

    server.ranges = ranges
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", stopped)
        with pytest.raises(KeyboardInterrupt if isinstance(stop, KeyboardInterrupt) else W2SError) as failure:
            get(server, tmp_path)
    part = tmp_path / f"{CIVILCOMMENTS.folder}.tar.gz.part"
    assert part.read_bytes() == server.archive
    if isinstance(stop, OSError):
        assert "No space left" in str(failure.value)
        assert f"{part} is kept" in str(failure.value)
    said = get(server, tmp_path)
    assert server.asked[1][1] == f"bytes={len(server.archive)}-"
    assert not [line for line in said if " MB of " in line], "nothing is downloaded again"
    assert not part.exists()
    assert same(root / CIVILCOMMENTS.folder, tmp_path / CIVILCOMMENTS.folder)


@pytest.mark.parametrize(
    "error", [ssl.SSLError(1, "bad record"), OSError(113, "No route to host"), TimeoutError("timed out")], ids=repr
)
def test_errors_of_the_network_are_not_the_disks(server, tmp_path, monkeypatch, error):
    def broken(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", broken)
    with pytest.raises(NotAvailable, match=f"could not download .*{error.args[-1]}"):
        get(server, tmp_path)


def test_errors_of_the_disk_are_not_the_networks(server, tmp_path, monkeypatch):
    open_file = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.suffix == ".part":
            raise OSError(28, "No space left on device")
        return open_file(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(W2SError, match=r"cannot write to the data root .* No space left"):
        get(server, tmp_path)


def test_a_failing_server_is_said_with_ways_out(server, tmp_path):
    server.status = 500
    with pytest.raises(NotAvailable) as failure:
        get(server, tmp_path)
    for words in (
        server.address,
        "HTTP 500",
        "issues 173 to 175",
        "--mirror URL",
        str(tmp_path / CIVILCOMMENTS.folder),
    ):
        assert words in str(failure.value)
    with pytest.raises(NotAvailable, match="refused"):
        download(ARCHIVE, tmp_path, "http://127.0.0.1:1", lambda line: None)
    with pytest.raises(W2SError, match="http://"):
        download(ARCHIVE, tmp_path, "ftp://mirror", lambda line: None)


@pytest.mark.parametrize("kind", ["html", "cut", "damaged", "other", "escaping"])
def test_a_wrong_archive_is_refused_and_deleted(server, root, tmp_path, kind):
    whole = server.archive
    if kind == "html":
        server.archive = b"<html>Internal error</html>"
    elif kind == "cut":
        server.archive = whole[: len(whole) // 2]
    elif kind == "damaged":  # the tar inside is readable; only the checksum at the end tells
        server.archive = whole[:-8] + bytes(4) + whole[-4:]
    elif kind == "other":
        server.archive = packed(root / "amazon_v2.1")
    else:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("../escaped"))
        server.archive = gzip.compress(buffer.getvalue())
    with pytest.raises(W2SError, match=r"was deleted"):
        get(server, tmp_path)
    assert not (tmp_path.parent / "escaped").exists()
    assert {p.name for p in tmp_path.iterdir()} == {f"{CIVILCOMMENTS.folder}.lock"}
    server.archive = whole
    get(server, tmp_path)
    assert lacking_data(CIVILCOMMENTS, tmp_path) is None


def test_nothing_that_is_there_is_overwritten(server, tmp_path):
    (tmp_path / CIVILCOMMENTS.folder).mkdir()
    with pytest.raises(W2SError, match="move it away"):
        get(server, tmp_path)
    assert server.asked == []


def test_a_full_disk_is_found_before_the_download(server, tmp_path):
    huge: Archive = replace(ARCHIVE, size=10**17)
    with pytest.raises(W2SError, match=r"are free, .* needs"):
        download(huge, tmp_path, server.address, lambda line: None)
    assert server.asked == []


def test_space_is_needed_for_what_is_still_to_come(server, tmp_path, monkeypatch):
    """Of 100 MB, 70 MB have arrived; unpacked they are 250 MB: 280 MB are needed."""
    archive = replace(ARCHIVE, size=100_000_000, unpacked=250_000_000)
    with (tmp_path / f"{CIVILCOMMENTS.folder}.tar.gz.part").open("wb") as part:
        part.truncate(70_000_000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=279_000_000))
    with pytest.raises(W2SError, match=r"are free, .* needs"):
        download(archive, tmp_path, server.address, lambda line: None)
    assert server.asked == []
    server.status = 500
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=281_000_000))
    with pytest.raises(NotAvailable):
        download(archive, tmp_path, server.address, lambda line: None)


def test_download_from_the_command_line(server, w2s, tmp_path):
    root, mirror = ("--data-root", tmp_path), ("--mirror", server.address)
    described = w2s("describe", "civilcomments", *root).out
    assert f"{tmp_path / CIVILCOMMENTS.folder}: no such folder" in described
    assert CIVILCOMMENTS.url in described
    dry = w2s("run", "--tasks", "civilcomments", "--dry-run", "--download", *mirror, *root)
    assert "no such folder" in dry.out
    assert server.asked == []  # nothing is downloaded for a plan
    done = w2s("download", "civilcomments", *mirror, *root)
    assert lacking_data(CIVILCOMMENTS, tmp_path) is None
    assert "downloading civilcomments_v1.0: 90.6 MB" in done.out
    again = w2s("download", "civilcomments", *mirror, *root)
    assert len(server.asked) == 1
    assert "downloading" not in again.out
    assert "--mirror: only with --download" in w2s("run", "--tasks", "civilcomments", *mirror, *root).refusal


def test_miniatures_have_the_versions_of_the_tasks():
    assert {data.name: data.version for data in DATA_SETS} == miniature.VERSIONS
