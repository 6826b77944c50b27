"""Vision models of the Hugging Face hub, frozen: DINO ViT-B/8 and whatever else `AutoModel` loads."""

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.assets.pretrained import ModelFiles, find_model, quiet
from benchmark.base.errors import W2SError
from benchmark.core.inputs import Inputs
from benchmark.encoders.devices import to_device, to_host
from benchmark.encoders.images import image_batches, rgb
from benchmark.store.stored_rows import CHUNK

_VERSION = 1
_UNUSED = {"pooler", "head"}  # parts of networks, which checkpoints may lack


@dataclass(frozen=True)
class VisionEncoder:
    """The class token after half of the layers (as it is) and after all (of ViT and DINO: after the last norm).

    Models without a class token (Swin, SigLIP) or of convolutions (ResNet, ConvNeXt) give the mean over positions
    instead. Poolers are not used: that of DINO has no pretrained weights. Inputs are PIL images or uint8 arrays
    (H, W[, 3]), prepared by the model's own image processor, always with Pillow, so that features do not depend on
    whether torchvision is installed. A GPU gets bytes where that is all the processor makes of them (`_levels`), and
    what the network sees there is the same, bit by bit.

    Args:
        model: a hub id, of which this machine must have a snapshot, or a folder that `hf download` or
            `save_pretrained` wrote. Only safetensors weights are read.
        pixels: resize to this square, without a crop, instead of what the image processor says; position embeddings
            are interpolated where the model can do that.
        batch: images at once; a divisor of 1,024. It changes features by rounding at most, so it is not part of the
            fingerprint.
    """

    model: str = "facebook/dino-vitb8"
    pixels: int | None = None
    batch: int = 32
    outputs: tuple[str, ...] = ("half", "full")

    def __post_init__(self) -> None:
        if self.batch < 1 or CHUNK % self.batch:  # so that chunks are cut where batches are
            raise W2SError(
                f"encoder '{self.name}': batch is {self.batch}, expected a divisor of {CHUNK}: 1, 2, 4, ... {CHUNK}"
            )
        if self.pixels is not None and self.pixels < 1:
            raise W2SError(f"encoder '{self.name}': pixels is {self.pixels}, expected at least 1")

    @property
    def name(self) -> str:
        """The model's, without its owner or the way to its folder."""
        return Path(self.model).name

    @property
    def fingerprint(self) -> str:
        """The model's (see `benchmark.assets.pretrained.find_model`), the size, and a version.

        Raises:
            NotAvailable: the model is not on this machine, or not all of it.
            W2SError: it has no safetensors weights.
        """
        return f"vision-{_VERSION}-{find_model(self.model).fingerprint}-{self.pixels}px"

    @property
    def requires(self) -> dict[str, str]:
        return {"transformers": "transformers", "PIL": "pillow"}

    def encode(self, inputs: Inputs, device: str = "cpu") -> dict[str, NDArray[np.float32]]:
        """Features (n, D) `half` and `full`, computed in float32 on a CPU, in bfloat16 or float16 on a GPU.

        Raises:
            NotAvailable: the model is not on this machine.
            W2SError: it has no safetensors weights, or lacks some; an input is no image; the GPU's memory is too small.
        """
        return next(self.stream(inputs, [slice(0, len(inputs))], device))

    def stream(
        self, inputs: Inputs, ranges: Sequence[slice], device: str = "cpu"
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Those of each range in turn; for a GPU one loader reads them all, a few batches ahead."""
        cuts = [[slice(i, min(i + self.batch, r.stop)) for i in range(r.start, r.stop, self.batch)] for r in ranges]
        if not all(cuts):
            raise W2SError(f"encoder '{self.name}': there are no images")
        network, processor, levels = _load(self.name, find_model(self.model), self.pixels, device)
        batches = [list(range(cut.start, cut.stop)) for batches in cuts for cut in batches]
        loader = image_batches(inputs, functools.partial(_prepare, processor, levels is not None), batches, device)
        for part in cuts:
            made = [self._features(network, next(loader), levels, device) for _ in part]
            yield {output: to_host(x) for output, x in zip(self.outputs, zip(*made, strict=True), strict=True)}

    def _features(self, network: Any, images: Tensor, levels: Tensor | None, device: str) -> tuple[Tensor, ...]:
        """Of a batch, on the device."""
        options = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            options["interpolate_pos_encoding"] = images.shape[-1] != network.config.image_size
        half = torch.bfloat16 if device != "cpu" and torch.cuda.is_bf16_supported() else torch.float16
        precision = nullcontext() if device == "cpu" else torch.autocast(torch.device(device).type, half)
        try:
            with torch.inference_mode(), precision:
                pixels = to_device(images, device)
                out = network(pixel_values=pixels if levels is None else _valued(pixels, levels), **options)
                states = out.hidden_states
                return tuple(_pool(network, x) for x in (states[len(states) // 2], out.last_hidden_state))
        except torch.OutOfMemoryError:
            raise W2SError(
                f"encoder '{self.name}': out of GPU memory with batch={self.batch}; try {self.batch // 2}"
            ) from None


def _prepare(processor: Any, bytes_only: bool, image: Any, position: int) -> NDArray[Any]:
    """(3, height, width), as the network takes it in float32, or the bytes which that is made from."""
    bytes_ = {"do_rescale": False, "do_normalize": False} if bytes_only else {}
    x = processor(images=rgb(image), return_tensors="np", **bytes_)["pixel_values"][0]
    return np.asarray(x) if bytes_only else np.asarray(x, np.float32)


def _levels(processor: Any) -> Tensor | None:
    """(3, 256) float32: what the processor makes of each level of red, green and blue once an image has its size; None
    if that is not what it does, as a picture of noise tells."""

    def prepared(picture: NDArray[np.uint8], bytes_only: bool = False) -> NDArray[Any]:
        return _prepare(processor, bytes_only, picture, 0)

    flat = (prepared(np.full((32, 32, 3), level, np.uint8)) for level in range(256))
    levels = np.stack([x[:, x.shape[1] // 2, x.shape[2] // 2] for x in flat], axis=1)
    noise = np.random.default_rng(0).integers(0, 256, (96, 80, 3), dtype=np.uint8)
    given, wanted = prepared(noise, bytes_only=True), prepared(noise)
    if given.dtype != np.uint8 or given.shape != wanted.shape or given.shape[0] != 3:
        return None
    by_level = np.stack([own[x] for own, x in zip(levels, given, strict=True)])
    return torch.from_numpy(levels) if np.array_equal(by_level, wanted) else None


def _valued(images: Tensor, levels: Tensor) -> Tensor:
    """Float32 of uint8 images (B, 3, height, width), each number by `levels` (3, 256)."""
    colours = torch.arange(3, dtype=torch.int32, device=images.device)[:, None, None]
    return levels.flatten()[images.int() + 256 * colours]


def _pool(network: Any, states: Tensor) -> Tensor:
    """(n, D) of (n, tokens, D) or of feature maps (n, D, H, W)."""
    if states.ndim == 4:
        return states.mean((2, 3))
    has_class_token = any(name.endswith(("cls_token", "class_embedding")) for name, _ in network.named_parameters())
    return states[:, 0] if has_class_token else states.mean(1)


@functools.lru_cache(maxsize=1)
def _load(encoder: str, files: ModelFiles, pixels: int | None, device: str) -> tuple[Any, Any, Tensor | None]:
    """Network and image processor; for a GPU also the `_levels`, on it."""
    from transformers import AutoImageProcessor, AutoModel

    quiet()
    own = {} if pixels is None else {"size": {"height": pixels, "width": pixels}, "do_center_crop": False}
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        with torch.random.fork_rng(devices=[]):  # weights that the folder lacks (poolers) are random
            processor = AutoImageProcessor.from_pretrained(files.folder, backend="pil", **safe, **own)
            network, loading = AutoModel.from_pretrained(
                files.folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **safe
            )
    except (OSError, ValueError, ImportError) as error:
        raise W2SError(f"encoder '{encoder}': transformers can't load it ({' '.join(str(error).split())})") from error
    if lacking := [name for name in loading["missing_keys"] if not _UNUSED & set(name.split("."))]:
        raise W2SError(
            f"encoder '{encoder}': the weights lack {len(lacking)} tensors of the network, first {sorted(lacking)[0]}"
        )
    network = getattr(network, "vision_model", network)  # of CLIP and its like, which read texts as well
    levels = None if device == "cpu" else _levels(processor)
    there = None if levels is None else to_device(levels, device)
    return network.eval().requires_grad_(False).to(device), processor, there
