"""The stand-in for CUDA: what would fail there or wait for the host fails here, and shapes are those of torch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from support.fake_cuda import HostReads, PinnedMemory, fake_cuda

FAULTS = {
    "two devices": (lambda x: x + torch.ones(3, 4), "tensors to be on the same device"),
    "weights left behind": (lambda x: nn.Linear(4, 2)(x), "tensors to be on the same device"),
    "item": (lambda x: x.sum().item(), "_local_scalar_dense"),
    "if": (lambda x: 1 if (x > 0).all() else 0, "_local_scalar_dense"),
    "tolist": (lambda x: x.tolist(), "_local_scalar_dense"),
    "a shape from values": (lambda x: x[x > 0], "an index is a mask"),
    "numpy": (lambda x: x.numpy(), "can't convert cuda:0"),
    "pinned": (lambda x: x.pin_memory(), "only dense CPU tensors"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cuda_refuses_or_waits_for_fails(fault: str) -> None:
    use, told = FAULTS[fault]
    with fake_cuda():
        x = torch.ones(3, 4).to("cuda")
        with pytest.raises(Exception, match=told):
            use(x)


INDICES = st.lists(
    st.sampled_from([None, slice(1, None), slice(None), 0, -1, "rows"]), max_size=4
).filter(lambda index: sum(i is not None for i in index) <= 3)  # fmt: skip


@given(INDICES, st.booleans())
def test_indexing_gives_the_shape_that_torch_gives(index: list[Any], rest: bool) -> None:
    def picked(device: str) -> torch.Tensor:
        x = torch.zeros(3, 4, 5, device=device)
        own = tuple(torch.zeros(2, dtype=torch.int64, device=device) if i == "rows" else i for i in index)
        own = (*own, ...) if rest else own
        x[own] = 1.0
        return x[own]

    with fake_cuda():
        there = picked("cuda")
    assert there.device.type == "cuda"
    assert there.shape == picked("cpu").shape


def test_reads_are_counted() -> None:
    x = torch.ones(3)
    with HostReads() as reads, torch.inference_mode():
        assert (x + 1).sum() > 0
        float(x[0])
        torch.equal(x, x)
        x[x > 0]
        x.nonzero()
    assert reads.count >= 4


def test_copies_are_noted() -> None:
    with fake_cuda() as cuda:
        network = copy.deepcopy(nn.Linear(4, 2)).to("cuda")
        assert cuda.unpinned == 2
        cuda.forget()
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                x = torch.from_numpy(np.ones((3, 4), np.float32)).pin_memory().to("cuda", non_blocking=True)
                out = network(x)
                assert out.device.type == "cuda"
                assert out.cpu().numpy().shape == (3, 2)
        torch.zeros(5, dtype=torch.uint8).to("cuda")
    assert cuda.to_device == [((3, 4), torch.float32)] * 2 + [((5,), torch.uint8)]
    assert cuda.to_host == [((3, 2), torch.float32)] * 2
    assert cuda.unpinned == 1


def test_autocast_is_that_of_cuda() -> None:
    with fake_cuda():
        network = nn.Linear(4, 2).requires_grad_(False).to("cuda")
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            assert network(torch.ones(3, 4, device="cuda")).dtype == torch.bfloat16


def test_pinned_memory_holds_the_numbers() -> None:
    with PinnedMemory():
        x = torch.arange(3)
        assert not x.is_pinned()
        assert x.pin_memory().is_pinned()
        assert torch.equal(x.pin_memory(), x)
        assert torch.empty(3, pin_memory=True).is_pinned()
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError):
            torch.zeros(3).pin_memory()
