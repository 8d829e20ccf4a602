"""One trunk, several light heads: depth, classes of pixels and a steering command from one image.

The trunk is U-shaped: an encoder of three levels and a decoder that comes back to half of the image's
resolution. A network with one head is that task's single-task twin: it has the same layers, but none that no
head reads, so that the twin which only steers has no decoder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldtune.errors import ModelError
from zoo.networks.checkpoint import check_state, read_state
from zoo.networks.folding import folded
from zoo.scenes import CLASSES, STEERING

INPUT_SHAPE = (1, 3, 48, 48)

CHANNELS: Mapping[str, int] = {"disparity": 1, "segments": len(CLASSES), "steer": len(STEERING)}
"""The heads in the order of the outputs, and the channels of each."""

_BASE = 16
_GRID = (2, 3)  # the rows and columns of features that steering reads


class Normalized(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """A 3x3 convolution, batch normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return F.relu(self.conv_norm(self.conv(x)))


class Up(nn.Module):  # type: ignore[misc]
    """Twice the resolution, joined with the encoder's features of that level, which come first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.tconv = nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2)
        self.join = Normalized(2 * outputs, outputs)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """Map (n, outputs, 2h, 2w) and (n, inputs, h, w) to (n, outputs, 2h, 2w)."""
        return self.join(torch.cat([skip, self.tconv(x)], 1))


class MapHead(nn.Module):  # type: ignore[misc]
    """Values for each pixel, at twice the resolution of the features."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.hidden = Normalized(inputs, inputs // 2)
        self.tconv = nn.ConvTranspose2d(inputs // 2, outputs, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, 2h, 2w)."""
        return self.tconv(self.hidden(x))


class FrameHead(nn.Module):  # type: ignore[misc]
    """Values for the whole frame, from the means of the features in two rows of three parts each.

    One mean over all would not tell left from right.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        height, width = (side // 8 for side in INPUT_SHAPE[2:])
        self.pool = nn.AvgPool2d((height // _GRID[0], width // _GRID[1]))
        self.linear = nn.Linear(inputs * _GRID[0] * _GRID[1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, 6, 6) to (n, outputs)."""
        return self.linear(self.pool(x).flatten(1))


class MultiTaskNet(nn.Module):  # type: ignore[misc]
    """Image (n, 3, 48, 48) in [0, 1] to a tuple of outputs, one a head, in the order of :data:`CHANNELS`.

    disparity (n, 1, 48, 48) = fb / depth, segments (n, 12, 48, 48), logits of :data:`zoo.scenes.CLASSES`,
    steer (n, 4), logits of :data:`zoo.scenes.STEERING`.

    Args:
        heads: some of :data:`CHANNELS`.
        width: times the channels of every layer; they come in multiples of 8.

    Raises:
        ModelError: there is no such head, or none is given.
    """

    def __init__(self, heads: Sequence[str] = tuple(CHANNELS), width: float = 1.0) -> None:
        super().__init__()
        if unknown := sorted(set(heads) - set(CHANNELS)) or ([] if heads else ["no head"]):
            raise ModelError(f"MultiTaskNet has no head {unknown[0]}; choose from {', '.join(CHANNELS)}")
        base = max(8, round(_BASE * width / 8) * 8)
        half, quarter, eighth = base, 2 * base, 4 * base
        self.encoder0 = nn.Sequential(Normalized(3, half, 2), Normalized(half, half))
        self.encoder1 = nn.Sequential(
            Normalized(half, quarter, 2), Normalized(quarter, quarter), Normalized(quarter, quarter)
        )
        self.encoder2 = nn.Sequential(Normalized(quarter, eighth, 2), Normalized(eighth, eighth))
        self._decodes = bool({"disparity", "segments"} & set(heads))
        if self._decodes:
            self.decoder1 = Up(eighth, quarter)
            self.decoder0 = Up(quarter, half)
        self.heads = nn.ModuleDict(
            {
                name: FrameHead(eighth, channels) if name == "steer" else MapHead(half, channels)
                for name, channels in CHANNELS.items()
                if name in heads
            }
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the heads."""
        half = self.encoder0(image)
        quarter = self.encoder1(half)
        eighth = self.encoder2(quarter)
        features = self.decoder0(half, self.decoder1(quarter, eighth)) if self._decodes else eighth
        return tuple(head(eighth if name == "steer" else features) for name, head in self.heads.items())


def load_checkpoint(path: Path) -> MultiTaskNet:
    """Return the network, folded, with the weights of a ``state_dict`` of any width and heads.

    Raises:
        ModelError: no such file, no state dict in it, or the parameters are not this network's.
    """
    state = read_state(path)
    heads = [name for name in CHANNELS if any(key.startswith(f"heads.{name}.") for key in state)]
    stem = state.get("encoder0.0.conv.weight")
    network = MultiTaskNet(heads or tuple(CHANNELS), 1.0 if stem is None else len(stem) / _BASE)
    check_state(state, network.state_dict(), "MultiTaskNet", "multitask", path)
    network.load_state_dict(state)
    return folded(network)
