"""DS-CNN and ResNet8, classifiers of MLPerf Tiny (Banbury et al. 2021, arXiv 2106.07597), for any image size.

Layers and channels are those of its keyword spotting and image classification networks; to compare with the
multi-task network's steering, they take its images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.checkpoint import check_state, read_state
from zoo.networks.folding import folded

INPUT_SHAPE = (1, 3, 48, 48)

Network = TypeVar("Network", bound="nn.Module")


class Separable(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """A depthwise 3x3 and a pointwise convolution, each normalized, with ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.depthwise_norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.pointwise_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape of `x`."""
        x = F.relu(self.depthwise_norm(self.depthwise(x)))
        return F.relu(self.pointwise_norm(self.pointwise(x)))


class DsCnn(nn.Module):  # type: ignore[misc]
    """Image (n, inputs, h, w) in [0, 1] to logits (n, classes)."""

    def __init__(self, classes: int, width: float = 1.0, inputs: int = 3) -> None:
        super().__init__()
        channels = _multiple_of_8(64 * width)
        self.stem = nn.Conv2d(inputs, channels, (10, 4), 2, (5, 1))
        self.stem_norm = nn.BatchNorm2d(channels)
        self.blocks = nn.Sequential(*(Separable(channels) for _ in range(4)))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        x = self.blocks(F.relu(self.stem_norm(self.stem(image))))
        return self.classifier(x.mean((2, 3)))


class Residual(nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions plus the input, which a pointwise convolution fits where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv0_norm = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.conv1_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y = F.relu(self.conv0_norm(self.conv0(x)))
        return F.relu(self.conv1_norm(self.conv1(y)) + self.shortcut(x))


class ResNet8(nn.Module):  # type: ignore[misc]
    """Image (n, 3, h, w) in [0, 1] to logits (n, classes)."""

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        first, second, third = (_multiple_of_8(channels * width) for channels in (16, 32, 64))
        self.stem = nn.Conv2d(3, first, 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(
            Residual(first, first, 1), Residual(first, second, 2), Residual(second, third, 2)
        )
        self.classifier = nn.Linear(third, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        x = self.blocks(F.relu(self.stem_norm(self.stem(image))))
        return self.classifier(x.mean((2, 3)))


def load_ds_cnn(path: Path) -> DsCnn:
    """Return DS-CNN for images, folded, with the weights of a ``state_dict`` of any width and classes.

    Raises:
        ModelError: no such file, no state dict in it, or the parameters are not this network's.
    """
    return _load(path, DsCnn, 64, "DS-CNN", "ds-cnn")


def load_resnet8(path: Path) -> ResNet8:
    """Return ResNet8, folded, with the weights of a ``state_dict`` of any width and classes.

    Raises:
        ModelError: no such file, no state dict in it, or the parameters are not this network's.
    """
    return _load(path, ResNet8, 16, "ResNet8", "resnet8")


def _load(path: Path, make: Callable[[int, float], Network], stem: int, network: str, name: str) -> Network:
    state = read_state(path)
    classes = len(state.get("classifier.bias", [0]))
    width = len(state.get("stem.bias", [0] * stem)) / stem
    found = make(classes, width)
    check_state(state, found.state_dict(), network, name, path)
    found.load_state_dict(state)
    return folded(found)


def _multiple_of_8(channels: float) -> int:
    return max(8, round(channels / 8) * 8)
