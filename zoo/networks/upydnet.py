"""µPyD-Net: monocular depth with 107,625 parameters (Peluso et al., IEEE TCSVT 2022; arXiv 2512.00086)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.checkpoint import check_state, read_state

INPUT_SHAPE = (1, 3, 48, 48)
SLOPE = 0.125  # LeakyReLU's slope below zero; a power of two, so that integers can shift


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)


class Encoder(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Three levels of two convolutions; each level halves the resolution of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = _conv(3, 8)
        self.conv1 = _conv(8, 8)
        self.conv2 = _conv(8, 16, stride=2)
        self.conv3 = _conv(16, 16)
        self.conv4 = _conv(16, 32, stride=2)
        self.conv5 = _conv(32, 32)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features at full, half and a quarter of the image's resolution."""
        full = F.leaky_relu(self.conv1(F.leaky_relu(self.conv0(image), SLOPE)), SLOPE)
        half = F.leaky_relu(self.conv3(F.leaky_relu(self.conv2(full), SLOPE)), SLOPE)
        quarter = F.leaky_relu(self.conv5(F.leaky_relu(self.conv4(half), SLOPE)), SLOPE)
        return full, half, quarter


class Decoder(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Three convolutions; the last one is linear."""

    def __init__(self, inputs: int, outputs: int = 32) -> None:
        super().__init__()
        self.conv0 = _conv(inputs, 32)
        self.conv1 = _conv(32, 32)
        self.conv2 = _conv(32, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the resolution of `features`."""
        hidden = F.leaky_relu(self.conv1(F.leaky_relu(self.conv0(features), SLOPE)), SLOPE)
        return self.conv2(hidden)


class Upsampler(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Twice the resolution by a transposed convolution without overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.tconv = nn.ConvTranspose2d(32, 32, kernel_size=2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, 32, h, w) to (n, 32, 2h, 2w)."""
        return self.tconv(features)


class UPydNet(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Image (n, 3, h, w) in [0, 1], sides divisible by 4, to disparity (n, 1, h, w) = fb / depth; 0 = no
    prediction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder0 = Decoder(32)
        self.ups0 = Upsampler()
        self.decoder1 = Decoder(16 + 32)
        self.ups1 = Upsampler()
        self.decoder2 = Decoder(8 + 32, outputs=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the disparity; the skip comes first in each concatenation, as in the published weights."""
        full, half, quarter = self.encoder(image)
        features = self.ups0(self.decoder0(quarter))
        features = self.ups1(self.decoder1(torch.cat([half, features], 1)))
        return F.relu(self.decoder2(torch.cat([full, features], 1)))


def load_checkpoint(path: Path) -> UPydNet:
    """Return the network with the weights of a published ``state_dict``; ``ups0.weight`` may stand for
    ``ups0.tconv.weight``.

    Raises:
        ModelError: no such file, no state dict in it, or the parameters are not µPyD-Net's.
    """
    network = UPydNet()
    state = {_canonical(key): value for key, value in read_state(path).items()}
    check_state(state, network.state_dict(), "µPyD-Net", "upydnet", path)
    network.load_state_dict(state)
    network.eval()
    return network


def _canonical(key: str) -> str:
    stage, _, leaf = key.partition(".")
    return f"{stage}.tconv.{leaf}" if stage in ("ups0", "ups1") and "." not in leaf else key
