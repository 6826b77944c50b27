"""The WILDS data sets: where they come from, whether the local copy is whole, and how the `wilds` package reads them.

Neither `wilds` nor torchvision, which it imports, is part of the default installation: they are imported when data are
read, and everything before that (cards, the state of the local copy, downloads) does without them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.api import NotAvailable, W2SError
from benchmark.assets.archives import Archive
from benchmark.core.metrics import IDENTITIES

Index = NDArray[np.int64]
_INSTALL = "pip install 'w2s-bench[wilds,lm]' (in a checkout: pip install -c constraints-wilds.txt -e '.[wilds,lm]')"
_TROUBLE = "the server of WILDS has been failing for long times (its issues 173 to 175 on GitHub)"
_ADDRESS = "https://worksheets.codalab.org/rest/bundles/{}/contents/blob/"


@dataclass(frozen=True)
class Units:
    """What each of the N examples of a data set belongs to.

    Attributes:
        groups: (N,) what stays in one split of a pool.
        scored: (N,) what the metric needs: what is resampled, or what it looks for the worst of.
        origins: (N,) WILDS's domain, by which sources are divided into three; -1: in none of the three.
    """

    groups: Index
    scored: Index
    origins: Index


@dataclass(frozen=True)
class DataSet:
    """One data set of WILDS. Version, address and size are those of wilds 2.0.0.

    Attributes:
        unpacked: bytes on the disk, about.
        tables: files with a row an example; images are named by the first.
        images: the folder -> paths in it of all images that the data set reads; None for texts.
        units: the opened data set -> what its examples belong to.
        others: what else must be there.
    """

    name: str
    version: str
    bundle: str
    size: int
    unpacked: int
    tables: tuple[str, ...]
    images: Callable[[Path], Iterable[str]] | None
    units: Callable[[Any], Units]
    others: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its folder under the data root."""
        return f"{self.name}_v{self.version}"

    @property
    def url(self) -> str:
        """Where the archive is."""
        return _ADDRESS.format(self.bundle)

    @property
    def proof(self) -> str:
        """A file that tells the version."""
        return f"RELEASE_v{self.version}.txt"

    def archive(self, licence: str) -> Archive:
        """What can be downloaded."""
        return Archive(self.folder, self.url, self.size, self.proof, _TROUBLE, licence, self.unpacked)


# --- the local copy --------------------------------------------------------------------------------------------------


def lacking_packages() -> str | None:
    """One line when `wilds` or torchvision is not installed."""
    lacking = [name for name in ("wilds", "torchvision") if find_spec(name) is None]
    return f"not installed: {', '.join(lacking)}; run: {_INSTALL}" if lacking else None


def lacking_data(data: DataSet, root: Path | None) -> str | None:
    """One line that says what is wrong with the local copy, or None: the folder, its version, tables, whether they have
    all rows, and whether every image that the table names is a file. Contents of images are not read."""
    if root is None:
        return (
            f"{data.folder}: no data root was named; --data-root DIR or W2S_DATA says which folder holds it or is to "
            f"hold it (to get it: w2s download {data.name} --data-root DIR)"
        )
    folder, proof = root / data.folder, data.proof
    get = f"to get it: w2s download {data.name} --data-root {root}"
    if not folder.is_dir():
        others = sorted(path.name for path in root.glob(f"{data.name}_v*") if path.is_dir())
        others = [name for name in others if "unlabeled" not in name]
        if others:
            return f"{root}: found {', '.join(others)}, expected {data.folder}; {get}"
        return f"{folder}: no such folder; {get}"
    releases = sorted(path.name for path in folder.glob("RELEASE_v*.txt"))
    if proof not in releases:
        if releases:
            return f"{folder}: found another version ({', '.join(releases)}), expected {proof}; {get}"
        return f"{folder}: partial: {proof} is missing; unpack the archive again, or move the folder away; {get}"
    for table in (*data.tables, *data.others):
        if not (folder / table).is_file():
            return f"{folder}: partial: {table} is missing; unpack the archive again, or move the folder away; {get}"
    try:
        if lack := _lacking_rows(data, folder):
            return f"{folder}: partial: {lack}; unpack the archive again, or move the folder away; {get}"
        return _lacking_images(folder, data.images(folder)) if data.images else None
    except (OSError, ValueError, KeyError) as error:
        return f"{folder}: {data.tables[0]} can't be read ({' '.join(str(error).split())})"


def _lacking_rows(data: DataSet, folder: Path) -> str | None:
    """A table that was cut at the end of a line is a sound table otherwise."""
    states = [(path, path.stat()) for path in (folder / table for table in data.tables)]
    found = [_count_rows(path, state.st_mtime_ns, state.st_size) for path, state in states]
    expected = max(EXAMPLES[data.name], *found)
    for table, rows in zip(data.tables, found, strict=True):
        if rows < expected:
            return f"{table} has {rows:,} rows, expected at least {expected:,}"
    return None


@functools.cache
def _count_rows(path: Path, modified: int, size: int) -> int:
    """Rows of a CSV file after its header: ends of lines outside of quotes. A gigabyte takes seconds."""
    ends, quoted, last = 0, False, b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            pieces = chunk.split(b'"')  # by turns outside and inside of quotes; a quote in a text is doubled
            ends += sum(piece.count(b"\n") for piece in pieces[quoted::2])
            quoted ^= len(pieces) % 2 == 0
            last = chunk[-1:]
    return ends + (last != b"\n") - 1


def _lacking_images(folder: Path, expected: Iterable[str]) -> str | None:
    """Compares names, folder by folder: seconds for half a million files."""
    by_folder: dict[str, list[str]] = {}
    total = 0
    for path in expected:
        inside, _, name = path.rpartition("/")
        by_folder.setdefault(inside, []).append(name)
        total += 1
    lacking: list[str] = []
    for inside, names in by_folder.items():
        try:
            with os.scandir(folder / inside) as entries:
                there = {entry.name for entry in entries}
        except FileNotFoundError:
            there = set()
        lacking += [f"{inside}/{name}" for name in names if name not in there]
    if not lacking:
        return None
    return f"{folder}: partial: {len(lacking):,} of {total:,} image files are missing, the first is {lacking[0]}"


def _iwildcam_images(folder: Path) -> Iterator[str]:
    import pandas

    return (f"train/{name}" for name in pandas.read_csv(folder / "metadata.csv", usecols=["filename"])["filename"])


def _camelyon17_images(folder: Path) -> Iterator[str]:
    import pandas

    columns = ["patient", "node", "x_coord", "y_coord"]
    table = pandas.read_csv(folder / "metadata.csv", usecols=columns, dtype={"patient": str})
    for patient, node, x, y in table[columns].itertuples(index=False, name=None):
        slide = f"patient_{patient}_node_{node}"
        yield f"patches/{slide}/patch_{slide}_x_{x}_y_{y}.png"


def _fmow_images(folder: Path) -> Iterator[str]:
    """Numbered by row; rows of the split `seq` (sequestered) are never read."""
    import pandas

    splits = pandas.read_csv(folder / "rgb_metadata.csv", usecols=["split"])["split"]
    if (folder / f"images/rgb_img_{len(splits)}.png").exists():
        raise ValueError(f"it was cut: it has {len(splits):,} rows, but there are images of later ones")
    return (f"images/rgb_img_{row}.png" for row, split in enumerate(splits) if split != "seq")


# --- reading through the real package --------------------------------------------------------------------------------


@functools.cache
def open_dataset(data: DataSet, root: Path) -> Any:
    """The data set as `wilds.get_dataset` gives it, once a process; never downloads.

    Raises:
        NotAvailable: `wilds` is not installed.
        W2SError: it can't read the folder.
    """
    if lack := lacking_packages():
        raise NotAvailable(lack)
    from wilds import get_dataset

    try:
        with _older_pandas(importlib.import_module(f"wilds.datasets.{data.name}_dataset")):
            return get_dataset(data.name, version=data.version, root_dir=str(root), download=False)
    except Exception as error:  # whatever a damaged table makes it raise
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise W2SError(f"{root / data.folder}: the package wilds can't read it ({what})") from error


@contextmanager
def _older_pandas(module: Any) -> Iterator[None]:
    """wilds 2.0.0 relies on two habits of pandas 1: text columns take numbers (CivilComments' splits), and times of one
    column may differ in form (2,700 of FMoW's have fractions of a second; wilds issue 146)."""
    import pandas

    def read_csv(*args: Any, **kwargs: Any) -> Any:
        table = pandas.read_csv(*args, **kwargs)
        texts = [name for name, kind in table.dtypes.items() if isinstance(kind, pandas.StringDtype)]
        return table.astype(dict.fromkeys(texts, object))

    to_datetime = functools.partial(pandas.to_datetime, format="ISO8601")
    own = module.pd
    module.pd = SimpleNamespace(**{**vars(pandas), "read_csv": read_csv, "to_datetime": to_datetime})
    try:
        yield
    finally:
        module.pd = own


@functools.cache
def units(data: DataSet, root: Path) -> Units:
    """What the examples of an opened data set belong to."""
    return data.units(open_dataset(data, root))


def split_of(dataset: Any) -> Index:
    """(N,) WILDS's split of each example, as its number in `split_dict`."""
    return np.asarray(dataset.split_array).astype(np.int64)


def labels_of(dataset: Any) -> Index:
    """(N,) class ids."""
    return np.asarray(dataset.y_array).astype(np.int64)


@functools.cache
def table_hash(data: DataSet, root: Path) -> str:
    """SHA-256 of the table that names images and labels. The images themselves are not hashed: gigabytes."""
    with (root / data.folder / data.tables[0]).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Images(Sequence[Any]):
    """Images of a data set, read one by one as RGB. Pickles as names and positions, so that it can go to workers."""

    data: DataSet
    root: Path
    rows: Index

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: Any) -> Any:
        try:
            return open_dataset(self.data, self.root).get_input(int(self.rows[i])).convert("RGB")
        except OSError as error:
            raise W2SError(f"{self.root / self.data.folder}: image {self.rows[i]} can't be read ({error})") from error


# --- what examples belong to -----------------------------------------------------------------------------------------


def _column(dataset: Any, field: str) -> Index:
    return np.asarray(dataset.metadata_array[:, dataset.metadata_fields.index(field)]).astype(np.int64)


def _ids(*keys: Any) -> Index:
    """(N,) one id for each combination of the keys' values that occurs."""
    import pandas

    return np.asarray(pandas.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys))), sort=False).ngroup())


def _iwildcam_units(dataset: Any) -> Units:
    """Frames of one burst (WILDS's sequence) stay together; cameras are resampled and are the source domains."""
    location = _column(dataset, "location")
    return Units(_column(dataset, "sequence"), location, location)


def _camelyon17_units(dataset: Any) -> Units:
    """Patches stand every 32 px and are 96 px wide, so neighbours overlap: squares of 960 px of a slide stay together.
    (Whole slides would be too few to deal: the target has ten, one with a third of its patches.) Slides are resampled,
    hospitals are the source domains."""
    table, slide = dataset._metadata_df, _column(dataset, "slide")
    squares = _ids(slide, table["x_coord"].to_numpy() // 960, table["y_coord"].to_numpy() // 960)
    return Units(squares, slide, _column(dataset, "hospital"))


def _fmow_units(dataset: Any) -> Units:
    """Images of one place (the folder of its path) stay together. The metric is about regions, without "Other", which
    the official one leaves out too; regions are the source domains."""
    paths = dataset.metadata["img_path"].iloc[dataset.full_idxs]
    region = _column(dataset, "region")
    named = np.array([name != "Other" for name in dataset.metadata_map["region"]])
    known = np.where(named[region], region, -1)
    return Units(_ids(paths.str.rpartition("/")[0].to_numpy()), known, known)


def _amazon_units(dataset: Any) -> Units:
    """Reviewers stay together, are what the metric is about, and are the source domains."""
    user = _column(dataset, "user")
    return Units(user, user, user)


_KINDS = ((0, 1, 2), (3, 4, 5), (6, 7))  # of `IDENTITIES`: gender and orientation, religion, race


def _civilcomments_units(dataset: Any) -> Units:
    """Comments on one article stay together. The metric needs which identities a comment mentions, as a bit mask;
    source domains are the kinds of identity: the first kind that a comment mentions."""
    mentions = np.stack([_column(dataset, identity) for identity in IDENTITIES], 1)
    mask = (mentions << np.arange(len(IDENTITIES))).sum(1)
    of_kind = np.stack([mentions[:, list(kind)].any(1) for kind in _KINDS], 1)
    origins = np.where(of_kind.any(1), of_kind.argmax(1), -1)
    return Units(_ids(dataset._metadata_df["article_id"].to_numpy()), mask, origins)


IWILDCAM = DataSet(
    "iwildcam",
    "2.0",
    "0x6313da2b204647e79a14b468131fcd64",
    11_957_420_032,
    25_000_000_000,
    ("metadata.csv",),
    _iwildcam_images,
    _iwildcam_units,
)
CAMELYON17 = DataSet(
    "camelyon17",
    "1.0",
    "0xe45e15f39fb54e9d9e919556af67aabe",
    10_658_709_504,
    15_000_000_000,
    ("metadata.csv",),
    _camelyon17_images,
    _camelyon17_units,
)
FMOW = DataSet(
    "fmow",
    "1.1",
    "0xaec91eb7c9d548ebb15e1b5e60f966ab",
    53_893_324_800,
    55_000_000_000,
    ("rgb_metadata.csv",),
    _fmow_images,
    _fmow_units,
    ("country_code_mapping.csv",),
)
AMAZON = DataSet(
    "amazon",
    "2.1",
    "0xe3ed909786d34ee79d430d065582aa29",
    1_989_805_589,
    3_600_000_000,
    ("reviews.csv", "splits/user.csv"),
    None,
    _amazon_units,
)
CIVILCOMMENTS = DataSet(
    "civilcomments",
    "1.0",
    "0x8cd3de0634154aeaad2ee6eb96723c6e",
    90_644_480,
    300_000_000,
    ("all_data_with_identities.csv",),
    None,
    _civilcomments_units,
)
# how many labelled examples WILDS publishes; FMoW's and Amazon's tables have rows beyond, which no split uses
EXAMPLES = {
    "iwildcam": 203_029,
    "camelyon17": 455_954,
    "fmow": 141_696,
    "amazon": 539_502,
    "civilcomments": 448_000,
}
DATA_SETS = (IWILDCAM, CAMELYON17, FMOW, AMAZON, CIVILCOMMENTS)
