"""The five data sets as the real `wilds` reads them, and the domains made of them."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import wilds
from PIL import Image

from benchmark.api import Task
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.core.pools import draw_pool
from benchmark.core.problems import data_fingerprint
from benchmark.core.registry import TASKS
from support import miniature
from tasks import _wilds
from tasks._wilds import DATA_SETS, open_dataset
from tasks._wilds_task import parts_of

NAMES = [data.name for data in DATA_SETS]
ENDINGS = ("", "-by-domain")


@pytest.fixture(params=[name + ending for name in NAMES for ending in ENDINGS])
def task(request: pytest.FixtureRequest, root: Path) -> Task:
    return TASKS[request.param].configured({"data_root": root})


def dataset_of(task: Task, root: Path):
    data = next(d for d in DATA_SETS if d.name == task.name.removesuffix("-by-domain"))
    return open_dataset(data, root)


def test_facts_are_those_of_the_package(root):
    for data in DATA_SETS:
        dataset = open_dataset(data, root)
        assert type(dataset).__module__ == f"wilds.datasets.{data.name}_dataset"
        assert data.version == dataset.latest_version
        known = dataset.versions_dict[data.version]
        assert (data.url, data.size) == (known["download_url"], known["compressed_size"])
        assert {data.name for data in DATA_SETS} <= set(wilds.supported_datasets)
    from wilds.datasets.fmow_dataset import categories

    assert list(TASKS["fmow"].card.classes) == categories


def test_every_image_that_the_check_wants_is_one_that_wilds_reads(root):
    for data in DATA_SETS:
        if data.images:
            dataset = open_dataset(data, root)
            assert len(list(data.images(root / data.folder))) == len(dataset)
            assert dataset.get_input(len(dataset) - 1)


def test_domains_are_the_splits_of_wilds(task, root):
    dataset = dataset_of(task, root)
    target = task.domain("test")
    subset = dataset.get_subset("test")
    assert target.labels.tolist() == subset.y_array.tolist()
    inputs = target.load()
    assert len(inputs) == len(subset)
    for i in (0, len(subset) - 1):
        expected, y, _ = subset[i]
        assert target.labels[i] == y
        if isinstance(inputs[i], Image.Image):
            assert inputs[i].mode == "RGB"
            expected = expected.convert("RGB")
            assert np.array_equal(inputs[i], expected)
        else:
            assert inputs[i] == expected
    if task.name in NAMES:
        assert np.array_equal(task.rows("train"), dataset.get_subset("train").indices)


def test_held_out_source_data_are_used_once(task, root):
    dataset = dataset_of(task, root)
    names = [*task.card.sources, task.card.target, *task.ind_domains, *dict.fromkeys(task.validation)]
    rows = [task.rows(name) for name in names]
    together = np.concatenate(rows)
    assert len(np.unique(together)) == len(together)
    assert all(map(len, rows))
    for name, of_domain in zip(names, rows, strict=True):
        assert set(_wilds.split_of(dataset)[of_domain]) == {dataset.split_dict[name.split("-")[0]]}
    (pool,) = task.ind_domains
    if pool.endswith("-pool"):  # the halves share no group
        validation = np.concatenate([task.domain(name).groups for name in task.validation])
        assert not set(task.domain(pool).groups) & set(validation)


def test_thirds_of_the_source(root):
    for name in NAMES:
        task = TASKS[f"{name}-by-domain"].configured({"data_root": root})
        whole = TASKS[name].configured({"data_root": root}).rows("train")
        units = _wilds.units(task._data, root)
        origins = [set(units.origins[task.rows(source)]) for source in task.card.sources]
        assert sum(map(len, origins)) == len(set.union(*origins))
        used = np.concatenate([task.rows(source) for source in task.card.sources])
        assert set(whole) - set(used) == set(whole[units.origins[whole] == -1])
        for source, validation in zip(task.card.sources, task.validation, strict=True):
            assert set(units.origins[task.rows(validation)]) <= set(units.origins[task.rows(source)])
    hospitals = [set(_wilds._column(open_dataset(d, root), "hospital")[t.rows(f"train-{i}")]) for d, t, i in _cam(root)]
    assert sorted(map(sorted, hospitals)) == [[0], [3], [4]]


def _cam(root):
    task = TASKS["camelyon17-by-domain"].configured({"data_root": root})
    return [(task._data, task, i) for i in (1, 2, 3)]


def test_the_largest_domain_goes_first_to_the_smallest_part():
    origins = np.repeat([0, 1, 2, 3, 4, 5, -1], [5, 40, 20, 30, 12, 3, 9])
    train = np.ones(len(origins), bool)
    train[origins == 5] = False
    part = parts_of(origins, train, 3)
    of = {int(o): set(part[origins == o]) for o in set(origins)}
    assert of == {1: {0}, 3: {1}, 2: {2}, 4: {2}, 0: {1}, 5: {-1}, -1: {-1}}


def test_overlapping_patches_are_in_one_group(root):
    target = TASKS["camelyon17"].configured({"data_root": root}).domain("test")
    table = open_dataset(_wilds.CAMELYON17, root)._metadata_df.iloc[
        TASKS["camelyon17"].configured({"data_root": root}).rows("test")
    ]
    place = table[["slide", "x_coord", "y_coord"]].to_numpy()
    assert len(np.unique(target.groups)) > 4
    for group in np.unique(target.groups):
        x, y = place[target.groups == group, 1], place[target.groups == group, 2]
        assert np.ptp(x) < 960
        assert np.ptp(y) < 960
        assert len(np.unique(place[target.groups == group, 0])) == 1
    near = (np.abs(place[:, None] - place) < (1, 96, 96)).all(-1)
    together = target.groups[:, None] == target.groups
    assert together[near].mean() > 0.9  # all but those on the edge of a square
    assert target.score_groups.tolist() == table["slide"].tolist()


def test_groups_of_the_others(root):
    def domain(name: str):
        return TASKS[name].configured({"data_root": root}).domain("test")

    frames = domain("iwildcam")
    assert set(np.unique(frames.groups, return_counts=True)[1]) == {3}
    assert len(np.unique(frames.score_groups)) == 3
    fmow, dataset = domain("fmow"), open_dataset(_wilds.FMOW, root)
    paths = dataset.metadata["img_path"].iloc[dataset.full_idxs[dataset.get_subset("test").indices]]
    assert len(np.unique(fmow.groups)) == len({path.rsplit("/", 1)[0] for path in paths}) < len(paths)
    other = dataset.metadata_map["region"].index("Other")
    region = dataset.get_subset("test").metadata_array[:, 0].numpy()
    assert other in region
    assert ((fmow.score_groups == -1) == (region == other)).all()
    assert (fmow.score_groups[region != other] == region[region != other]).all()
    users = domain("amazon")
    assert users.groups.tolist() == users.score_groups.tolist()
    assert len(np.unique(users.groups)) == 15
    comments, civil = domain("civilcomments"), open_dataset(_wilds.CIVILCOMMENTS, root)
    assert set(np.unique(comments.groups, return_counts=True)[1]) == {6}
    bits = comments.score_groups[:, None] >> np.arange(8) & 1
    assert np.array_equal(bits, civil.get_subset("test").metadata_array[:, :8].numpy())


def test_pools_keep_groups_whole(task):
    domains = {n: task.domain(n) for n in (*task.card.sources, task.card.target, *task.ind_domains)}
    for condition, name in (("ood", task.card.target), ("ind", task.ind_domains[0])):
        pool = draw_pool(task, domains, condition, 0)
        groups = [set(domains[name].groups[pool.examples[split]]) for split in ("train", "val", "test")]
        assert not groups[0] & groups[2]
        assert pool.domains == (name,)


def test_fingerprints_follow_the_data(root, tmp_path, monkeypatch):
    assert TASKS["amazon"].configured({"data_root": root}).domain("test").fingerprint == (
        TASKS["amazon-by-domain"].configured({"data_root": root}).domain("test").fingerprint
    )
    copies = {}
    for name in ("amazon", "camelyon17"):
        folder = miniature.write(name, tmp_path)
        task = TASKS[name].configured({"data_root": tmp_path})
        before = TASKS[name].configured({"data_root": root})
        assert task.domain("test").fingerprint == before.domain("test").fingerprint  # not of where the data are
        copies[name] = folder, task, before
    reviews = copies["amazon"][0] / "reviews.csv"
    reviews.write_text(reviews.read_text().replace("thing of 2", "thing of two"))
    table = copies["camelyon17"][0] / "metadata.csv"
    table.write_text(table.read_text().rstrip("\n") + "\n\n")
    for cached in (_wilds.open_dataset, _wilds.units, _wilds.table_hash):
        cached.cache_clear()
    for _, task, before in copies.values():
        assert task.domain("test").fingerprint != before.domain("test").fingerprint
    assert data_fingerprint(copies["amazon"][1]) != data_fingerprint(copies["amazon"][2])


def test_images_travel_as_names(root):
    images = TASKS["camelyon17"].configured({"data_root": root}).domain("test").load().parts[0]
    assert sum(value.nbytes for value in vars(images).values() if isinstance(value, np.ndarray)) <= 8 * len(images)
    assert np.array_equal(copy.deepcopy(images)[3], images[3])  # as a process that reads ahead gets them


def test_damaged_data_are_one_line(root, tmp_path):
    folder = tmp_path / "camelyon17_v1.0"
    shutil.copytree(root / "camelyon17_v1.0", folder)
    task = TASKS["camelyon17"].configured({"data_root": tmp_path})
    images = task.domain("test").load()
    name = open_dataset(_wilds.CAMELYON17, tmp_path)._input_array[task.rows("test")[0]]
    (folder / name).write_bytes((folder / name).read_bytes()[:300])
    with pytest.raises(W2SError, match=r"camelyon17_v1.0: image .* can't be read"):
        images[0]
    (tmp_path / "civilcomments_v1.0").mkdir()
    (tmp_path / "civilcomments_v1.0" / "RELEASE_v1.0.txt").touch()
    (tmp_path / "civilcomments_v1.0" / "all_data_with_identities.csv").write_text(",id\n0,1\n")
    with pytest.raises(W2SError, match="the package wilds can't read it"):
        TASKS["civilcomments"].configured({"data_root": tmp_path}).domain("test")


def test_no_data_root(monkeypatch):
    monkeypatch.delenv("W2S_DATA", raising=False)
    with pytest.raises(NotAvailable, match="no data root was named"):
        TASKS["fmow"].domain("test")


def test_options():
    task = TASKS["iwildcam"]
    assert (task.weak_model.architecture, task.weak_model.pixels) == ("alexnet", 448)
    assert task.encoder.model == "facebook/dino-vitb8"
    other = task.configured({"supervisor": "resnet18", "pixels": "96", "supervisor_epochs": 2, "encoder": "a/b"})
    assert (other.weak_model.architecture, other.weak_model.pixels, other.weak_model.epochs) == ("resnet18", 96, 2)
    assert other.encoder.model == "a/b"
    assert all(s.model == other.weak_model for s in other.supervisors(0))
    assert task.weak_model.pixels == 448
    with pytest.raises(W2SError, match=r"task 'iwildcam': pixels is '0', expected"):
        task.configured({"pixels": 0})
