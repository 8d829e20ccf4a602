"""Pre-train µPyD-Net on rendered streets, halls, corridors and lofts.

    python -m zoo.pretrain --out FILE.onnx --seed 0

The same seed on the same machine gives the same file. Rooms, which the demo fine-tunes to, are never rendered
here.
"""

import argparse
import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldtune.console import progress, say
from zoo import scenes
from zoo.export import UPYDNET_TASK, export_onnx
from zoo.networks.upydnet import INPUT_SHAPE, SLOPE, UPydNet
from zoo.prepare import network_input, true_depth

FRAMES_PER_SCENE = 10
STRIDE = 7  # frames along the path from one pool frame to the next: neighbours teach the same
BATCH = 16
THREADS = 2


@dataclass(frozen=True)
class Stage:
    """A part of the training: so many scenes of each domain, epochs over them, first learning rate."""

    scenes: Mapping[str, int]
    epochs: int
    learning_rate: float


# Large plain scenes first: with the cluttered lofts from the beginning the loss hardly falls for five epochs.
STAGES = (
    Stage({"hall": 200, "corridor": 100, "street": 100}, 10, 2e-3),
    Stage({"loft": 400, "hall": 50, "corridor": 25, "street": 25}, 8, 1.5e-3),
)

_FB = UPYDNET_TASK.outputs[0].fb or 0.0
_SIDE = INPUT_SHAPE[2]


def berhu(output: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Masked berHu loss, continuous at its threshold, averaged over a batch.

    Each sample's disparities are divided by its largest known target; the threshold is a fifth of its largest
    error. This is what one step with batch 1 on the board computes.

    Args:
        output: disparity (n, 1, h, w).
        target: disparity (n, 1, h, w).
        known: bool (n, 1, h, w); a sample without any known pixel adds nothing.
    """
    largest = (target * known).amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    error = ((output - target) / largest).abs() * known
    threshold = 0.2 * error.detach().amax((1, 2, 3), keepdim=True) + 1e-12
    loss = torch.where(error < threshold, error, (error**2 + threshold**2) / (2 * threshold)) * known
    return (loss.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)).mean()


def render_pool(seed: int, scene_counts: Mapping[str, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Render so many scenes of each domain; return images (n, 48, 48, 3) and depths (n, 48, 48),
    0 = sky.
    """
    jobs = [(domain, seed * 100_000 + k) for domain, count in scene_counts.items() for k in range(count)]
    with ProcessPoolExecutor(THREADS, get_context("spawn")) as pool:
        found = list(progress(pool.map(_render_scene, jobs, chunksize=4), "rendering", len(jobs)))
    return np.concatenate([images for images, _ in found]), np.concatenate([depths for _, depths in found])


def _render_scene(job: tuple[str, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    domain, seed = job
    frames = list(scenes.render(domain, seed, FRAMES_PER_SCENE * STRIDE)[::STRIDE])
    images = np.stack([network_input(frame, _SIDE, _SIDE) for frame in frames])
    return images, np.stack([true_depth(frame, _SIDE, _SIDE) for frame in frames])


def augment(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the colours of images (n, 3, h, w) in [0, 1], one way a sample: the room's palette must not come
    as a surprise.
    """
    count = len(image)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, *shape, 1, 1)).astype(np.float32))

    order = torch.from_numpy(np.stack([rng.permutation(3) for _ in range(count)]))
    shuffled = torch.take_along_dim(image, order[:, :, None, None], 1)
    image = torch.where(draw(0, 1, 1) < 0.5, shuffled, image)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * draw(0, 1.5, 1)
    image = image.clamp(0, 1) ** draw(0.7, 1.4, 1)
    image = image * draw(0.8, 1.2, 3) * draw(0.6, 1.5, 1)
    noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32))
    return (image + noise * draw(0, 0.02, 1)).clamp(0, 1)


def train(
    network: UPydNet,
    images: NDArray[np.uint8],
    depths: NDArray[np.float32],
    seed: int,
    epochs: int,
    learning_rate: float,
) -> None:
    """Train `network` on a pool: Adam, one cosine to zero after a short warm-up, images mirrored and
    recoloured.
    """
    rng = np.random.default_rng(seed)
    network.train().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    steps = epochs * (len(images) // BATCH)
    warm_up = min(200, steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / warm_up, 0.5 + 0.5 * math.cos(math.pi * k / steps))
    )
    for epoch in range(epochs):
        total = 0.0
        order = rng.permutation(len(images))
        for batch in progress(
            np.split(order[: steps // epochs * BATCH], steps // epochs), f"epoch {epoch + 1}"
        ):
            image = torch.from_numpy(images[batch]).permute(0, 3, 1, 2).float() / 255
            depth = torch.from_numpy(depths[batch])[:, None]
            mirrored = torch.from_numpy(rng.random((len(batch), 1, 1, 1)) < 0.5)
            image, depth = (
                torch.where(mirrored, image.flip(3), image),
                torch.where(mirrored, depth.flip(3), depth),
            )
            known = depth > 0
            target = torch.where(known, _FB / depth.clamp(min=1e-3), torch.zeros(()))
            loss = berhu(network(augment(image, rng)), target, known)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        say(f"epoch {epoch + 1} of {epochs}: loss {total / (steps // epochs):.4f}")
    network.to(memory_format=torch.contiguous_format).eval()


def fresh_network(seed: int) -> UPydNet:
    """µPyD-Net with He's initialisation, whose output starts about the pool's usual disparities.

    Torch's own initialisation lets the signal fade over 17 layers without normalisation.
    """
    torch.manual_seed(seed)
    network = UPydNet()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_normal_(layer.weight, SLOPE)
            torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        network.decoder2.conv2.weight.mul_(5)
        network.decoder2.conv2.bias.fill_(8)
    return network


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)  # channels that fade would slow every epoch down more
    network = fresh_network(arguments.seed)
    for number, stage in enumerate(STAGES):
        seed = arguments.seed * len(STAGES) + number
        train(network, *render_pool(seed, stage.scenes), seed, stage.epochs, stage.learning_rate)
    export_onnx(network, UPYDNET_TASK, INPUT_SHAPE, arguments.out)
    say(f"wrote {arguments.out}, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
