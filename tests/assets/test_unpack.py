"""Hostile archives: nothing leaves the folder, nothing grows without bound, nothing is left behind."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.assets import archives as downloads
from benchmark.assets import unpack
from benchmark.assets.archives import Archive, download
from benchmark.base.errors import W2SError
from tasks import _vader

PROOF = "RELEASE_v1.0.txt"
MOST = 100_000  # bytes that an archive may have here when it is unpacked


def entry(name: str, data: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    return member, data


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def link(kind: bytes, name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=kind, linkname=target)


def declared(size: int) -> bytes:
    """A header that promises more than follows."""
    member = tarfile.TarInfo("data.csv")
    member.size = size
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))


GOOD = [entry(PROOF, b"1.0"), entry("data.csv", b"1,2\n")]


def hostile(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Name -> archive, and words of the message."""
    attack = entry("ladder/escaped", b"out")
    return {
        "climbs": (packed(*GOOD, entry("../escaped", b"out")), "outside the destination"),
        "climbs later": (packed(*GOOD, entry("a/b/../../../escaped", b"out")), "outside the destination"),
        "symlink out": (packed(*GOOD, link(tarfile.SYMTYPE, "ladder", ".."), attack), "neither a plain file"),
        "symlink absolute": (
            packed(*GOOD, link(tarfile.SYMTYPE, "ladder", str(folder)), attack),
            "neither a plain file",
        ),
        "symlink inside": (packed(*GOOD, link(tarfile.SYMTYPE, "again", "data.csv")), "neither a plain file"),
        "hard link out": (packed(*GOOD, link(tarfile.LNKTYPE, "mine", "../secret")), "neither a plain file"),
        "hard link absolute": (packed(*GOOD, link(tarfile.LNKTYPE, "mine", "/etc/passwd")), "neither a plain file"),
        "device": (packed(*GOOD, entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)), "neither a plain file"),
        "disk": (packed(*GOOD, entry("sda", type=tarfile.BLKTYPE, devmajor=8)), "neither a plain file"),
        "pipe": (packed(*GOOD, entry("pipe", type=tarfile.FIFOTYPE)), "neither a plain file"),
        "bomb": (packed(*GOOD, entry("zeros", bytes(50 * MOST))), "larger than"),
        "bomb of many": (packed(*GOOD, *(entry(f"{i}", bytes(MOST // 10)) for i in range(12))), "larger than"),
        "promises terabytes": (declared(2**40), "larger than"),
        "sparse terabyte": (gzip.compress(sparse(2**40)), "larger than"),
        "cut": (packed(*GOOD)[:-30], "no whole|ended before|end-of-stream"),
        "flipped": (flipped(packed(*GOOD)), "CRC|no whole|invalid"),
        "no archive": (b"<html>not found</html>", "Not a gzipped file"),
        "gzip of something": (
            gzip.compress(b"hello" * 1000),
            "no whole|invalid header|not be opened|ReadError|truncated",
        ),
        "empty": (b"", "no whole|empty|not found"),
    }


def sparse(size: int) -> bytes:
    """GNU's header of a file with holes, of that size."""
    member = tarfile.TarInfo("data.csv")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header) + bytes(10_240)


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[-6] ^= 1  # of the checksum
    return bytes(changed)


KINDS = list(hostile(Path("/")))


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_download_is_not_unpacked(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("mine")
    data, words = hostile(tmp_path)[kind]
    root = tmp_path / "root"
    archive = Archive("data_v1.0", "http://localhost/x", len(data), PROOF, "it fails", "CC0", MOST // 2)
    monkeypatch.setattr(downloads, "_fetch", lambda url, part, *_: part.write_bytes(data))
    with pytest.raises(W2SError, match=words) as refused:
        download(archive, root, None, lambda line: None)
    assert "http://localhost/x" in str(refused.value)
    assert "it was deleted" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert everything(tmp_path) == {"secret", "root", "root/data_v1.0.lock"}
    assert (tmp_path / "secret").read_text() == "mine"


def in_a_zip(inner: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as outer:
        outer.writestr(_vader._INNER, inner)
    return buffer.getvalue()


@pytest.fixture
def vader_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], dict[str, bytes]]:
    """Reads the texts from another archive than the one whose SHA-256 is known."""

    def read(outer: bytes) -> dict[str, bytes]:
        (tmp_path / "cache").mkdir()
        path = tmp_path / "cache" / "vader.zip"
        path.write_bytes(outer)
        monkeypatch.setattr(_vader, "fetch_sdist", lambda **_: path)
        return _vader._source_files.__wrapped__()

    return read


def test_what_is_asked_for_is_read_and_nothing_is_written(
    tmp_path: Path, vader_from: Callable[[bytes], dict[str, bytes]]
) -> None:
    names = {domain: f"hutto_ICWSM_2014/{name}" for domain, (name, _) in _vader._FILES.items()}
    members = [entry(name, domain.encode()) for domain, name in names.items()]
    found = vader_from(in_a_zip(packed(entry("hutto_ICWSM_2014", type=tarfile.DIRTYPE), entry("more", b"1"), *members)))
    assert found == {domain: domain.encode() for domain in names}
    assert everything(tmp_path) == {"cache", "cache/vader.zip"}


def test_an_absolute_path_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(packed(*GOOD, entry(str(tmp_path / "escaped"), b"out")))
    unpack.unpack(tmp_path / "archive", tmp_path / "data", PROOF, MOST, "here")
    assert not (tmp_path / "escaped").exists()
    assert (tmp_path / "data" / str(tmp_path)[1:] / "escaped").read_bytes() == b"out"


@pytest.mark.parametrize("top", ["", "data_v1.0/"])
def test_a_good_archive_is_unpacked(top: str, tmp_path: Path) -> None:
    members = [entry("data_v1.0", type=tarfile.DIRTYPE)] * bool(top)
    members += [entry(f"{top}{PROOF}", b"1.0"), entry(f"{top}deep/data.csv", b"1,2\n", mode=0o4777)]
    (tmp_path / "archive").write_bytes(packed(*members))
    (tmp_path / ".unpacking-data_v1.0").mkdir()
    (tmp_path / ".unpacking-data_v1.0" / "left.by.a.kill").touch()
    unpack.unpack(tmp_path / "archive", tmp_path / "data_v1.0", PROOF, MOST, "here")
    expected = {"archive", "data_v1.0", f"data_v1.0/{PROOF}", "data_v1.0/deep", "data_v1.0/deep/data.csv"}
    assert everything(tmp_path) == expected
    assert (tmp_path / "data_v1.0/deep/data.csv").read_bytes() == b"1,2\n"
    assert (tmp_path / "data_v1.0/deep/data.csv").stat().st_mode & 0o7022 == 0
