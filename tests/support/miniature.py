"""The five data sets in small, in their true layout on disk: file names, columns, image formats, splits and RELEASE.

Columns are those that the data sets' makers write (`dataset_preprocessing` of the WILDS repository). Classes can be
told apart by colour or by words, so that a small model learns them; the shift is brightness or vocabulary.
`write(name, root)` makes `root/<name>_v<version>`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EXAMPLES = {"iwildcam": 462, "camelyon17": 700, "fmow": 600, "amazon": 540, "civilcomments": 1500}
VERSIONS = {"iwildcam": "2.0", "camelyon17": "1.0", "fmow": "1.1", "amazon": "2.1", "civilcomments": "1.0"}


def write(name: str, root: Path) -> Path:
    """Write one data set; returns its folder."""
    folder = root / f"{name}_v{VERSIONS[name]}"
    folder.mkdir(parents=True)
    WRITERS[name](folder)
    (folder / f"RELEASE_v{VERSIONS[name]}.txt").write_text(f"{name} v{VERSIONS[name]}\n")
    return folder


def _table(path: Path, rows: list[dict[str, Any]], index: bool = False) -> None:
    """A CSV file; with `index`, a first column without a name that counts the rows, as pandas writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*([""] if index else []), *rows[0]])
        writer.writerows([*([i] if index else []), *row.values()] for i, row in enumerate(rows))


def _picture(rng: np.random.Generator, label: int, classes: int, size: tuple[int, int], dark: float) -> Image.Image:
    """(height, width) of noise, tinted by class: evenly spaced points of the colour circle, darkened by domain."""
    angle = 2 * np.pi * label / classes
    tint = 128 + 90 * np.cos(angle + np.array([0, 2.1, 4.2]))
    noise = rng.normal(0, 12, (size[0] // 8, size[1] // 8, 3)).repeat(8, 0).repeat(8, 1)  # coarse: small files
    return Image.fromarray(np.clip((tint + noise) * (1 - dark), 0, 255).astype(np.uint8))


def _iwildcam(folder: Path) -> None:
    """K = 6. Locations 0-5 are the source; 6, 7 validation (OOD); 8-10 test. Bursts of three frames are sequences."""
    rng, rows, K = np.random.default_rng(1), [], 6
    splits = {"train": (range(6), 30), "val": ((6, 7), 6), "test": ((8, 9, 10), 100), "id_val": (range(6), 6)}
    sequence = 0
    (folder / "train").mkdir()
    for split, (locations, bursts) in {**splits, "id_test": (range(6), 12)}.items():
        for burst in range(bursts):
            location = locations[burst % len(locations)]
            start = datetime(2013, 1 + burst % 12, 5, 4, 30) + timedelta(hours=burst)
            y = burst % K if split == "train" else int(rng.integers(K))
            for frame in range(3):
                name = f"{sequence:08x}-21bc-11ea-a13a-{frame:012x}.jpg"
                _picture(rng, y, K, (48, 64), 0.04 * location).save(folder / "train" / name)
                rows.append(
                    {
                        "split": split,
                        "location_remapped": location,
                        "location": 300 + location,
                        "sequence_remapped": sequence,
                        "seq_id": f"{sequence:08x}-7a2b-11eb-a3a0",
                        "y": y,
                        "category_id": 10 * y,
                        "datetime": (start + timedelta(seconds=frame)).strftime("%Y-%m-%d %H:%M:%S.%f"),
                        "filename": name,
                        "image_id": name.removesuffix(".jpg"),
                    }
                )
            sequence += 1
    _table(folder / "metadata.csv", rows, index=True)
    _table(folder / "categories.csv", [{"y": k, "category_id": 10 * k, "name": f"species {k}"} for k in range(K)])


def _camelyon17(folder: Path) -> None:
    """Hospitals 0-4 with two slides each. Patches of 96 px stand every 32 px, so that neighbours overlap."""
    rng, rows = np.random.default_rng(2), []
    for center in range(5):
        for slide in (10 * center, 10 * center + 1):
            patient, node = f"{20 * center + slide % 10 * 7:03d}", slide % 5
            inside = folder / "patches" / f"patient_{patient}_node_{node}"
            inside.mkdir(parents=True)
            for patch in range(70):
                x, y = 3328 + 32 * (patch % 7) + 1600 * (patch // 14), 21792 + 32 * (patch // 7 % 2)
                tumor = int(rng.integers(2))
                name = f"patch_patient_{patient}_node_{node}_x_{x}_y_{y}.png"
                _picture(rng, tumor, 2, (96, 96), 0.08 * center).save(inside / name)
                rows.append(
                    {
                        "patient": patient,
                        "node": node,
                        "x_coord": x,
                        "y_coord": y,
                        "tumor": tumor,
                        "slide": slide,
                        "center": center,
                        "split": int(rng.random() < 0.3),  # drawn over all hospitals; the class puts 1 and 2 aside
                    }
                )
    _table(folder / "metadata.csv", rows, index=True)


# WILDS reads regions from country codes; a code that the table lacks is in the region "Other"
_COUNTRIES = {"FRA": "Europe", "NGA": "Africa", "BRA": "Americas", "IND": "Asia", "AUS": "Oceania", "XKX": None}
_CATEGORIES = ("airport", "barn", "crop_field", "stadium")


def _fmow(folder: Path) -> None:
    """Four of the 62 categories. Some times have fractions of a second, as some of the real ones."""
    rng, rows = np.random.default_rng(3), []
    years = {"train": range(2002, 2018), "val": range(2009, 2018), "test": range(2010, 2018), "seq": range(2012, 2014)}
    sites = {"train": 40, "val": 40, "test": 120, "seq": 2}
    countries = list(_COUNTRIES)
    (folder / "images").mkdir()
    for split, per_split in sites.items():
        for site in range(per_split):
            category = int(rng.integers(4))
            country = countries[site % 5] if site % 20 else "XKX"
            place = f"{_CATEGORIES[category]}_{site}"
            for view in range(3):
                year = years[split][(site + view) % len(years[split])]
                fraction = ".643" if rng.random() < 0.2 else ""
                dark = 0.05 * countries.index(country) + (0.2 if year >= 2016 else 0)
                if split != "seq":
                    image = _picture(rng, category, 4, (224, 224), dark)
                    image.save(folder / "images" / f"rgb_img_{len(rows)}.png", compress_level=1)
                rows.append(
                    {
                        "split": split,
                        "img_filename": f"{place}_{view}_rgb.tif",
                        "img_path": f"{split}/{_CATEGORIES[category]}/{place}/{place}_{view}_rgb.jpg",
                        "spatial_reference": "GEOGCS",
                        "epsg": 4326,
                        "category": _CATEGORIES[category],
                        "visible": True,
                        "img_width": 500,
                        "img_height": 500,
                        "country_code": country,
                        "cloud_cover": 0,
                        "timestamp": f"{year}-0{1 + view}-10T02:48:56{fraction}Z",
                        "lat": 10.5,
                        "lon": 20.5,
                    }
                )
    _table(folder / "rgb_metadata.csv", rows)
    known = [{"name": k, "alpha-3": k, "region": region} for k, region in _COUNTRIES.items() if region]
    _table(folder / "country_code_mapping.csv", known)


WORDS = ("terrible awful broken", "poor weak flimsy", "fine average okay", "good solid useful", "superb perfect love")


def _sentence(rng: np.random.Generator, label: int, words: tuple[str, ...], flavour: str, noise: float) -> str:
    """A few words of the class (or of another one, with probability `noise`) among words of the domain."""
    told = int(rng.integers(len(words))) if rng.random() < noise else label
    chosen = [str(rng.choice(words[told].split())) for _ in range(3)]
    return f'The {flavour} was {chosen[0]}, really {chosen[1]}; "{chosen[2]}" they said.\nNumber {rng.integers(1000)}.'


def _amazon(folder: Path) -> None:
    """Users 0-11 are the source, 12-15 validation (OOD), 16-30 test; every review of the rest is left out (-1)."""
    rng, rows, splits = np.random.default_rng(4), [], []
    for user in range(33):
        for review in range(20):
            split = 1 if 12 <= user < 16 else 3 if 16 <= user < 31 else -1
            if user < 12:
                split = 0 if review < 12 else 2 if review < 15 else 4
            y = int(rng.integers(5))
            rows.append(
                {
                    "reviewerID": f"A{user:03d}",
                    "asin": f"B{rng.integers(50):03d}",
                    "overall": float(y + 1),
                    "reviewTime": "01 5, 2015",
                    "unixReviewTime": 1420416000,
                    "reviewText": _sentence(rng, y, WORDS, f"thing of {user % 5}", 0.02 * (user % 10)),
                    "summary": "a summary",
                    "verified": True,
                    "category": ("Books", "Toys", "Music")[user % 3],
                    "reviewYear": 2010 + user % 8,
                }
            )
            splits.append({"split": split})
    with (folder / "reviews.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)
    _table(folder / "splits" / "user.csv", splits)


_IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")
TOXICITY = ("kind calm thoughtful polite fair", "stupid idiot hate disgusting moron")
_OTHERS = ("severe_toxicity", "obscene", "threat", "insult", "identity_attack", "sexual_explicit")


def _civilcomments(folder: Path) -> None:
    """Articles of six comments; about half of the comments mention identities, some several."""
    rng, rows = np.random.default_rng(5), []
    for split, articles in {"train": 50, "val": 120, "test": 80}.items():
        for article in range(articles):
            for _ in range(6):
                toxic = int(rng.random() < 0.4)
                mentioned = rng.random(8) < 0.2
                flavour = " and ".join(i for i, m in zip(_IDENTITIES, mentioned, strict=True) if m) or "weather"
                rows.append(
                    {
                        "id": 5_000_000 + len(rows),
                        "comment_text": _sentence(rng, toxic, TOXICITY, flavour, 0.1 if mentioned.any() else 0.0),
                        "split": split,
                        "created_date": "2017-01-01 00:00:00+00",
                        "publication_id": 21,
                        "article_id": 1000 * len(split) + article,
                        "rating": "approved",
                        "toxicity": 0.7 if toxic else 0.1,
                        **{name: float(m) for name, m in zip(_IDENTITIES, mentioned, strict=True)},
                        "identity_any": float(mentioned.any()),
                        **dict.fromkeys(_OTHERS, 0.0),
                    }
                )
    order: NDArray[np.int64] = rng.permutation(len(rows))
    _table(folder / "all_data_with_identities.csv", [rows[i] for i in order], index=True)


WRITERS: dict[str, Callable[[Path], None]] = {
    "iwildcam": _iwildcam,
    "camelyon17": _camelyon17,
    "fmow": _fmow,
    "amazon": _amazon,
    "civilcomments": _civilcomments,
}
