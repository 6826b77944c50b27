"""Weak model of images: a classifier of torchvision, trained from scratch."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmark.base.errors import NotAvailable, W2SError, unknown_name
from benchmark.base.seeding import derive, numpy_rng
from benchmark.base.torch_seeding import torch_rng
from benchmark.core.inputs import Inputs
from benchmark.encoders.images import image_batches, rgb
from benchmark.store.checkpoints import Checkpoints

Schedule = Literal["cosine", "step", "constant"]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as all published recipes have it
_ASPECT = math.log(4 / 3)  # crops are stretched by at most this, as in torchvision's RandomResizedCrop


@dataclass(frozen=True)
class TrainedClassifier:
    """A fitted `TorchvisionClassifier`, on its device."""

    network: nn.Module
    recipe: TorchvisionClassifier
    device: str

    def predict_proba(self, inputs: Inputs) -> NDArray[np.float64]:
        """(n, K) probabilities of n images, read batch by batch.

        Raises:
            W2SError: the GPU's memory is too small.
        """
        return self.recipe.logits(self.network, inputs, self.device).double().softmax(-1).numpy()


_BILINEAR = 2  # of PIL.Image.Resampling
_OPERATIONS = {"alexnet": 1.4e9, "resnet18": 3.6e9, "resnet34": 7.3e9, "resnet50": 8.2e9}  # torchvision's own figures


@dataclass(frozen=True)
class TorchvisionClassifier:
    """A classifier of torchvision with random initial weights, cross-entropy, SGD with momentum.

    The paper trains its image supervisors (AlexNet) from scratch and does not say how; WILDS's own baselines start from
    ImageNet weights, so their settings do not carry over. Where there is a common from-scratch recipe (torchvision's
    reference script for AlexNet: SGD, lr 0.01, momentum 0.9, random resized crop, horizontal flip, ImageNet's mean and
    standard deviation), it is taken; what is marked "ours" is this project's choice.

    Images are PIL images or uint8 (H, W[, 3]). For training, crops are taken relative to the image's own shape; for
    prediction, the whole image is squeezed to a square without a crop, as what is to be seen may be at the border
    (ours). Neither the order, the augmentation nor dropout depends on how many processes read images: each epoch's are
    derived from the seed and the epoch, so a resumed training needs no random state and goes on identically.

    With `validation`, the weights of the epoch with the best accuracy on it (among equals, the least cross-entropy) are
    kept, and training stops after `patience` epochs without a better one; otherwise the last epoch's are (ours).

    Args:
        architecture: any classification model of torchvision.
        pixels: height and width of what the network sees; AlexNet takes 63 and more.
        epochs: at most (ours).
        batch: images a step; an incomplete last batch is left out in training (ours; the reference has 32 a GPU).
        lr, momentum: of SGD.
        weight_decay: 5e-4 as in the AlexNet paper (the reference has 1e-4).
        schedule: of the learning rate, by epoch: half a cosine to 0 (ours), a tenth after each third, or constant.
        patience: epochs without a better one before training stops (ours).
        smallest_crop: least share of the image's area in a training crop (ours; ImageNet's 0.08 may miss the animal).
        flip: mirror half of the training images.
    """

    architecture: str = "alexnet"
    pixels: int = 224
    epochs: int = 60
    batch: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    patience: int = 10
    smallest_crop: float = 0.35
    flip: bool = True
    name: ClassVar[str] = "benchmark.supervisors.torchvision_models.TorchvisionClassifier"
    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    on_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("pixels", "epochs", "batch", "patience"):
            if (value := getattr(self, name)) < 1:
                raise W2SError(f"TorchvisionClassifier: {name} is {value}, expected at least 1")
        if self.schedule not in (known := get_args(Schedule)):
            raise unknown_name("schedule", self.schedule, known)
        if not 0 < self.smallest_crop <= 1:
            raise W2SError(f"TorchvisionClassifier: smallest_crop is {self.smallest_crop}, expected in (0, 1]")

    def fit(
        self,
        inputs: Inputs,
        labels: NDArray[np.int64],
        num_classes: int,
        seed: int,
        validation: tuple[Inputs, NDArray[np.int64]] | None = None,
        checkpoints: Checkpoints | None = None,
        device: str = "cpu",
    ) -> TrainedClassifier:
        """Train on n images and class ids (n,); with `checkpoints`, go on where an earlier call stopped.

        On a GPU: channels last, autocast to bfloat16, or float16 with scaled gradients where it has no bfloat16.
        Torch's global random state stays as it was.

        Raises:
            NotAvailable: torchvision is not installed.
            W2SError: an unknown architecture, images too small for it, the checkpoint of another training, or a GPU
                whose memory is too small.
        """
        checkpoints = checkpoints or Checkpoints(None)
        with _own_random_state(device):
            torch.manual_seed(seed)
            network: Any = self._network(num_classes)
            if device != "cpu":
                network.to(device=device, memory_format=torch.channels_last)
            optimizer = torch.optim.SGD(network.parameters(), self.lr, self.momentum, weight_decay=self.weight_decay)
            scaler = torch.amp.GradScaler(device, enabled=device != "cpu" and not torch.cuda.is_bf16_supported())
            state = _State(network, optimizer, scaler)
            state.restore(checkpoints)
            while not state.done:
                self._train(state, inputs, labels, seed, device)
                score = self._score(network, *validation, device) if validation else None
                state.finish_epoch(score, self.epochs, self.patience)
                state.save(checkpoints)
        network.load_state_dict(state.best)
        return TrainedClassifier(network.eval().requires_grad_(False), self, device)

    def logits(self, network: nn.Module, inputs: Inputs, device: str) -> Tensor:
        """(n, K) float32 logits on the CPU, of a network in evaluation mode."""
        batches = [rows.tolist() for rows in torch.arange(len(inputs)).split(self.batch)]
        read = functools.partial(_whole, self.pixels)
        network.eval()
        with self._memory_checked(), torch.inference_mode(), _convolutions(device):
            images = image_batches(inputs, read, batches, device)
            return torch.cat([_forward(network, x, device).float().cpu() for x in images])

    def _network(self, num_classes: int) -> nn.Module:
        if find_spec("torchvision") is None:
            raise NotAvailable(
                f"architecture '{self.architecture}': torchvision is not installed; run: pip install torchvision"
            )
        from torchvision import models

        known = models.list_models(module=models)
        if self.architecture not in known:
            raise unknown_name("architecture", self.architecture, known)
        network: nn.Module = models.get_model(self.architecture, weights=None, num_classes=num_classes)
        try:
            with torch.inference_mode():
                network.eval()(torch.zeros(1, 3, self.pixels, self.pixels))
        except (RuntimeError, ValueError, AssertionError) as error:
            what = " ".join(str(error).split())
            raise W2SError(
                f"architecture '{self.architecture}' takes no images of {self.pixels} px ({what}); set other pixels"
            ) from None
        return network

    def _train(self, state: _State, inputs: Inputs, labels: NDArray[np.int64], seed: int, device: str) -> None:
        """One epoch."""
        epoch = state.epoch
        order = torch.randperm(len(labels), generator=torch_rng("order", seed, epoch))
        batches = [rows.tolist() for rows in order.split(self.batch)]
        if len(batches) > 1 and len(batches[-1]) < self.batch:
            del batches[-1]  # batch norm on a handful of images would be noise
        read = functools.partial(_augmented, self.pixels, self.smallest_crop, self.flip, seed, epoch)
        targets = torch.from_numpy(np.asarray(labels, np.int64))
        for group in state.optimizer.param_groups:
            group["lr"] = self._lr(epoch)
        torch.manual_seed(derive("dropout", seed, epoch))
        state.network.train()
        with self._memory_checked(), torch.enable_grad(), _convolutions(device):
            for rows, x in zip(batches, image_batches(inputs, read, batches, device), strict=True):
                state.optimizer.zero_grad()
                loss = cross_entropy(_forward(state.network, x, device).float(), targets[rows].to(device))
                state.scaler.scale(loss).backward()
                state.scaler.step(state.optimizer)
                state.scaler.update()

    def _score(self, network: nn.Module, inputs: Inputs, labels: NDArray[np.int64], device: str) -> tuple[float, float]:
        """Accuracy, and cross-entropy with its sign changed: more is better."""
        logits, y = self.logits(network, inputs, device), torch.from_numpy(np.asarray(labels, np.int64))
        return (logits.argmax(-1) == y).double().mean().item(), -cross_entropy(logits.double(), y).item()

    def _lr(self, epoch: int) -> float:
        done = epoch / self.epochs
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        return self.lr * 0.1 ** int(3 * done) if self.schedule == "step" else self.lr

    @contextmanager
    def _memory_checked(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise W2SError(
                f"architecture '{self.architecture}' at {self.pixels} px: out of GPU memory with batch={self.batch}; "
                f"try {max(1, self.batch // 2)}"
            ) from None


class _State:
    """How far training is, and everything that the next epoch depends on."""

    _PLAIN = ("epoch", "done", "best_epoch", "best_score")

    def __init__(self, network: nn.Module, optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler) -> None:
        self.network, self.optimizer, self.scaler = network, optimizer, scaler
        self.epoch, self.done, self.best_epoch = 0, False, -1
        self.best: dict[str, Tensor] = {}
        self.best_score: tuple[float, ...] | None = None

    def finish_epoch(self, score: tuple[float, float] | None, epochs: int, patience: int) -> None:
        """Count the epoch and keep its weights if they are the best, or if there is nothing to tell by."""
        if score is None or self.best_score is None or score > self.best_score:
            self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            self.best_epoch, self.best_score = self.epoch, score
        self.epoch += 1
        self.done = self.epoch >= epochs or self.epoch - 1 - self.best_epoch >= patience

    def save(self, checkpoints: Checkpoints) -> None:
        """Everything; of a finished training, the best weights."""
        tensors = {f"best.{name}": value for name, value in self.best.items()}
        if not self.done:
            tensors |= {f"network.{name}": value for name, value in self.network.state_dict().items()}
            momenta = {i: s.get("momentum_buffer") for i, s in self.optimizer.state_dict()["state"].items()}
            tensors |= {f"momentum.{i}": value for i, value in momenta.items() if value is not None}
        plain = {name: getattr(self, name) for name in self._PLAIN}
        checkpoints.save(tensors, {**plain, "scaler": self.scaler.state_dict()})

    def restore(self, checkpoints: Checkpoints) -> None:
        """What was saved last, if anything was."""
        if (found := checkpoints.load()) is None:
            return
        tensors, progress = found
        for name in self._PLAIN:
            setattr(self, name, progress[name])
        self.best_score = self.best_score and tuple(self.best_score)

        def named(part: str) -> dict[str, Tensor]:
            return {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}

        self.best = named("best.")
        if not self.done:
            self.network.load_state_dict(named("network."))
            saved = self.optimizer.state_dict()
            saved["state"] = {int(i): {"momentum_buffer": buffer} for i, buffer in named("momentum.").items()}
            self.optimizer.load_state_dict(saved)
            self.scaler.load_state_dict(progress["scaler"])


def _whole(pixels: int, image: Any, position: int) -> NDArray[np.uint8]:
    """(3, pixels, pixels)."""
    return np.array(rgb(image).resize((pixels, pixels), _BILINEAR)).transpose(2, 0, 1)


def _augmented(
    pixels: int, smallest: float, flip: bool, seed: int, epoch: int, image: Any, position: int
) -> NDArray[np.uint8]:
    """(3, pixels, pixels): a random crop, half of them mirrored; the same for the same seed, epoch and position."""
    rng, picture = numpy_rng("augmentation", seed, epoch, position), rgb(image)
    area, aspect = rng.uniform(smallest, 1), math.exp(rng.uniform(-_ASPECT, _ASPECT))
    width, height = min(1, math.sqrt(area * aspect)), min(1, math.sqrt(area / aspect))
    left, top, mirrored = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), flip and rng.random() < 0.5
    W, H = picture.size
    box = (left * W, top * H, (left + width) * W, (top + height) * H)
    x = np.array(picture.resize((pixels, pixels), _BILINEAR, box)).transpose(2, 0, 1)
    return np.ascontiguousarray(x[:, :, ::-1]) if mirrored else x


def _forward(network: nn.Module, images: Tensor, device: str) -> Tensor:
    """Logits of uint8 images (B, 3, pixels, pixels)."""
    x = images.to(device, non_blocking=True).float() / 255
    x = (x - x.new_tensor(_MEAN).view(3, 1, 1)) / x.new_tensor(_STD).view(3, 1, 1)
    if device == "cpu":
        out = network(x)
    else:
        kind = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        with torch.autocast(device, kind):
            out = network(x.contiguous(memory_format=torch.channels_last))
    return out if isinstance(out, Tensor) else out.logits  # GoogLeNet and Inception add others while they train


def _convolutions(device: str) -> Any:
    """All images have one size, so cuDNN may look for its fastest algorithm."""
    return nullcontext() if device == "cpu" else torch.backends.cudnn.flags(enabled=True, benchmark=True)


def _own_random_state(device: str) -> Any:
    return torch.random.fork_rng(devices=[] if device == "cpu" else [torch.device(device)])
