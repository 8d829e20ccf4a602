"""MCUNet-5fps: an image classifier of inverted residuals for microcontrollers (Lin et al., NeurIPS 2020,
arXiv 2007.10319), which arXiv 2206.15472 trains on one, with images of 128 x 128.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.networks.checkpoint import check_state, read_state
from zoo.networks.folding import folded

INPUT_SHAPE = (1, 3, 128, 128)
STEM = 16


@dataclass(frozen=True)
class Block:
    """Channels inside and behind an inverted residual, its depthwise kernel and stride."""

    inner: int
    channels: int
    kernel: int
    stride: int = 1


BLOCKS = (
    Block(16, 8, 3),
    Block(32, 16, 3, 2),
    Block(48, 16, 3),
    Block(48, 24, 7, 2),
    Block(120, 24, 3),
    Block(120, 40, 3, 2),
    Block(160, 40, 7),
    Block(160, 48, 5),
    Block(144, 48, 3),
    Block(192, 48, 3),
    Block(240, 96, 7, 2),
    Block(384, 96, 5),
    Block(384, 96, 5),
    Block(576, 160, 3),
)


class InvertedResidual(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Expand, depthwise, project; plus the input where the shape stays. No expansion to as many channels."""

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        if block.inner != inputs:
            self.expand = nn.Conv2d(inputs, block.inner, 1, bias=False)
            self.expand_norm = nn.BatchNorm2d(block.inner)
        padding = block.kernel // 2
        self.depthwise = nn.Conv2d(
            block.inner, block.inner, block.kernel, block.stride, padding, groups=block.inner, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(block.inner)
        self.project = nn.Conv2d(block.inner, block.channels, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(block.channels)
        self._expands = block.inner != inputs
        self._adds = block.stride == 1 and block.channels == inputs
        self._bend = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, channels, h / stride, w / stride)."""
        inner = self._bend(self.expand_norm(self.expand(x))) if self._expands else x
        inner = self._bend(self.depthwise_norm(self.depthwise(inner)))
        y = self.project_norm(self.project(inner))
        return x + y if self._adds else y


class McuNet(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Image (n, 3, h, w) in [0, 1] of any size to logits (n, classes)."""

    def __init__(self, classes: int, blocks: Sequence[Block] = BLOCKS, stem: int = STEM) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem)
        inputs = (stem, *(block.channels for block in blocks[:-1]))
        self.blocks = nn.ModuleList(map(InvertedResidual, inputs, blocks))
        self.classifier = nn.Linear(blocks[-1].channels, classes)
        self._bend = nn.ReLU6()

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        x = self._bend(self.stem_norm(self.stem(image)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean((2, 3)))


def scaled(width: float, blocks: Sequence[Block] = BLOCKS) -> tuple[Block, ...]:
    """Return `blocks` with `width` times the channels, in multiples of 8."""

    def channels(count: int) -> int:
        return max(8, round(count * width / 8) * 8)

    return tuple(
        replace(block, inner=channels(block.inner), channels=channels(block.channels)) for block in blocks
    )


def random_network(classes: int, seed: int = 0, side: int = 128, width: float = 1.0) -> McuNet:
    """Return a network of random weights whose layers all have outputs of a trained one's size, folded.

    Its memory and instructions are those of a trained one, what it says means nothing.
    """
    torch.manual_seed(seed)
    network = McuNet(classes, scaled(width))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all images that were seen
    with torch.no_grad():
        network.train()(torch.rand(16, 3, side, side))
    return folded(network)


def load_checkpoint(path: Path) -> McuNet:
    """Return MCUNet-5fps, folded, with the weights of a ``state_dict`` of :class:`McuNet`, for any classes.

    Raises:
        ModelError: no such file, no state dict in it, or the parameters are not this network's.
    """
    state = read_state(path)
    classes = len(state.get("classifier.bias", [0]))
    network = McuNet(classes)
    check_state(state, network.state_dict(), "MCUNet-5fps", "mcunet", path)
    network.load_state_dict(state)
    return folded(network)
