"""The reader of torch's legacy weight files: exact, strict, and never unpickling."""

import collections
import io
import os
import pickle
import random
import struct

import pytest
import torch
from torch import nn

from benchmark.assets.legacy_weights import read_legacy_weights
from benchmark.base.errors import W2SError
from benchmark.encoders.efficientnet import load_network


def legacy(state) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def test_reads_what_torch_saved():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    read = read_legacy_weights(legacy(network.state_dict()), "file")
    assert list(read) == list(network.state_dict())
    for name, value in network.state_dict().items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    other.load_state_dict(read, strict=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8])
def test_number_types(dtype):
    value = torch.arange(6).reshape(2, 3).to(dtype)
    assert torch.equal(read_legacy_weights(legacy({"a": value}), "file")["a"], value)


def test_views_strides_scalars_and_empty_tensors():
    base = torch.arange(24.0)
    state = {
        "part": base[4:10],
        "turned": base.reshape(4, 6).t(),
        "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 5),
        "whole": base,
    }
    read = read_legacy_weights(legacy(state), "file")
    for name, value in state.items():
        assert torch.equal(read[name], value), name
        assert read[name].is_contiguous()
    read["whole"].zero_()
    assert torch.equal(read["part"], base[4:10])  # nothing is shared


def test_many_tensors_use_the_long_opcodes():
    state = {f"layer.{i}": torch.full((2,), float(i)) for i in range(400)}
    read = read_legacy_weights(legacy(state), "file")
    assert all(torch.equal(read[name], value) for name, value in state.items())


def test_the_published_weights_load_whole():
    network = load_network(64)  # strict=True inside
    assert sum(p.numel() for p in network.parameters()) == 4_652_008
    assert not network.training


class Planted:
    """Unpickling this runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("position", range(5))
def test_planted_code_is_refused_and_not_run(tmp_path, position, protocol):
    witness = tmp_path / "ran"
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    parts[position] = Planted(witness)
    data = b"".join(pickle.dumps(part, 2 if i != position else protocol) for i, part in enumerate(parts))
    with pytest.raises(W2SError, match="refused"):
        read_legacy_weights(data, "file")
    assert not witness.exists()
    pickle.loads(pickle.dumps(Planted(witness)))
    assert witness.exists()  # so it would have run


def test_planted_code_beside_weights_is_refused(tmp_path):
    data = legacy({"a": torch.ones(2), "b": Planted(tmp_path / "ran")})
    with pytest.raises(W2SError, match=r"file: refused: .*system"):
        read_legacy_weights(data, "file")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "body",
    [
        b"cbuiltins\neval\n",
        b"ctorch\nload\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ccollections\nOrderedDict\nK\x01\x85R",
        b"ccollections\nOrderedDict\n)\x81",
        b"(U\x01aios\nsystem\n",
    ],
    ids=["eval", "load", "parameter", "call with arguments", "NEWOBJ", "INST"],
)
def test_other_names_and_opcodes_are_refused(body):
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    with pytest.raises(W2SError, match="refused"):
        read_legacy_weights(head + b"\x80\x02" + body + b".", "file")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": 3}, "dict of tensors"),
        ([torch.ones(2)], "dict of tensors"),
        ({3: torch.ones(2)}, "dict of tensors"),
        ({"a": {"b": torch.ones(2)}}, "dict of tensors"),
        (collections.Counter(a=1), "refused"),
    ],
)
def test_anything_but_a_dict_of_tensors_is_refused(state, words):
    with pytest.raises(W2SError, match=words):
        read_legacy_weights(legacy(state), "file")


@pytest.mark.parametrize("keep", [0, 1, 10, 60, 200, -100, -1])
def test_a_file_cut_short_is_refused(keep):
    data = legacy({"a": torch.ones(50), "b": torch.ones(50)})
    with pytest.raises(W2SError, match=r"^weights\.pth: "):
        read_legacy_weights(data[:keep], "weights.pth")


def test_more_after_the_end_is_refused():
    with pytest.raises(W2SError, match="more after"):
        read_legacy_weights(legacy({"a": torch.ones(5)}) + b"x", "file")


def test_a_tensor_may_not_reach_beyond_its_storage():
    data = legacy({"a": torch.ones(7)})
    offset = data.index(b"K\x00K\x07\x85")  # storage offset 0, shape (7,)
    beyond = data[:offset] + b"K\x01K\x07\x85" + data[offset + 5 :]
    with pytest.raises(W2SError, match="beyond its storage"):
        read_legacy_weights(beyond, "file")
    larger = data[:offset] + b"K\x00K\x08\x85" + data[offset + 5 :]
    with pytest.raises(W2SError, match="larger than its storage"):
        read_legacy_weights(larger, "file")


def test_a_storage_of_another_size_is_refused():
    data = legacy({"a": torch.ones(7)})
    changed = data.replace(struct.pack("<q", 7), struct.pack("<q", 6))
    assert changed != data
    with pytest.raises(W2SError, match="holds 6 numbers, expected 7"):
        read_legacy_weights(changed, "file")


HEAD = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"}" + b")" + b"\x85" * 2_000_000 + b"K\x01s", "keys other than texts"),  # a key of 2,000,000 nested tuples
        (b"](" + b"K\x01" * 300_000 + b"e", "pickle exhausted"),
        (b"X\xff\xff\xff\x7fabc", "ValueError"),  # a text of 2 GB that is not there
        (b"\x8d" + struct.pack("<Q", 2**62), "refused|ValueError"),
        (b"\x95" + struct.pack("<Q", 2**62), "refused|ValueError"),
        (b"h\x07", "KeyError"),
        (b"(((t", "dict of tensors|ValueError"),
        (b"R", "IndexError"),
        (b"\x86", "ValueError|dict of tensors"),
        (b"}q\x00h\x00s", "keys other than texts|IndexError"),
    ],
    ids=["deep key", "long list", "long text", "longer text", "frame", "memo", "marks", "call", "tuple", "no value"],
)
def test_senseless_pickles_are_refused(body, words):
    with pytest.raises(W2SError, match=words):
        read_legacy_weights(HEAD + b"\x80\x02" + body + b".", "file")


def test_two_tensors_may_not_disagree_about_their_storage():
    """Else one could claim numbers that the file does not hold."""
    value = torch.ones(7)
    data = legacy({"a": value, "b": value[:]})
    second = data.rindex(b"K\x07N")  # the size in the second reference
    assert data.count(b"K\x07N") == 2
    with pytest.raises(W2SError, match=r"storage \d+ is of two kinds"):
        read_legacy_weights(data[:second] + b"K\x08N" + data[second + 3 :], "file")


def test_whatever_is_changed_tensors_or_a_clear_error_come_out():
    """Random bytes anywhere in a sound file."""
    data = legacy({"a": torch.ones(3, 2), "b": torch.arange(5), "c": torch.ones(2).half()})
    rng = random.Random(0)
    refused = []
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        try:
            read = read_legacy_weights(bytes(changed), "file")
        except W2SError as error:
            refused.append(str(error))
        else:
            assert all(type(name) is str and type(value) is torch.Tensor for name, value in read.items())
    assert 1500 < len(refused) < 3000
    assert all(line.startswith("file: ") for line in refused)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"hello", bytes(range(128, 256)) * 4])
def test_other_files_are_refused(data):
    with pytest.raises(W2SError):
        read_legacy_weights(data, "file")
