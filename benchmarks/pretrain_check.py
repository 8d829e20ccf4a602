"""Is a pre-trained network a good start? Fine-tune it in torch on rendered rooms that it has never seen.

    python benchmarks/pretrain_check.py [--weights zoo/weights/upydnet_rendered.onnx] [--seeds 0-9] [--lr LR]
    [--steps N] [--train N]

As on the board: decoder0 and ups0 only, plain SGD, batch 1, ToF labels, frames in order. Then the 50 frames
that follow are predicted. The mean map is each pixel's mean true depth over the training frames. The
constants of the demo are the defaults.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import load, numpy_helper

from zoo.export import UPYDNET_TASK
from zoo.metrics import depth_metrics, mean_map, to_depth
from zoo.networks.upydnet import INPUT_SHAPE, UPydNet
from zoo.prepare import label, network_input, true_depth
from zoo.scenes import DEMO_SCENE, render
from zoo.training.losses import loss

SPEC = UPYDNET_TASK.outputs[0]
SIDE = INPUT_SHAPE[2]
TRAINED = ("decoder0.", "ups0.")


def network(weights: Path) -> UPydNet:
    """The network with the weights of an ONNX file that `zoo.export` wrote."""
    net = UPydNet()
    arrays = {
        item.name: torch.tensor(numpy_helper.to_array(item)) for item in load(str(weights)).graph.initializer
    }
    net.load_state_dict(arrays)
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name.startswith(TRAINED)
    return net


def tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """Network input (1, 3, 48, 48)."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def check(weights: Path, seed: int, lr: float, steps: int, train: int, test: int) -> tuple[float, ...]:
    """Pooled RMSE [m] of mean map, untuned and tuned network; abs_rel and delta1 of mean map and tuned; mean
    depth.
    """
    frames = render("room", seed, train + test)
    net = network(weights)
    images = [network_input(frame, SIDE, SIDE) for frame in frames]
    truths = np.stack([true_depth(frame, SIDE, SIDE) for frame in frames])

    def predict() -> NDArray[np.float32]:
        with torch.no_grad():
            return np.stack([to_depth(net(tensor(image)).numpy()[0, 0], SPEC) for image in images[train:]])

    held_out = truths[train:]
    baseline = depth_metrics(np.broadcast_to(mean_map(truths[:train]), held_out.shape), held_out)
    before = depth_metrics(predict(), held_out)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr)
    for step in range(steps):
        target = label(frames[step % train], SPEC, (SIDE, SIDE, 1), frames.geometry)
        if target is None:
            continue
        disparity, mask = (torch.from_numpy(array[None, None, ..., 0]) for array in target)
        error = loss(SPEC.loss, net(tensor(images[step % train])), disparity, mask)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    after = depth_metrics(predict(), held_out)
    rmse = (baseline.rmse, before.rmse, after.rmse)
    return (*rmse, baseline.abs_rel, after.abs_rel, baseline.delta1, after.delta1, float(truths.mean()))


def main() -> None:
    """Print a row a seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", type=Path, default=Path(__file__).parents[1] / "zoo/weights/upydnet_rendered.onnx"
    )
    parser.add_argument("--seeds", default="0-9", help="first and last seed")
    parser.add_argument("--lr", type=float, default=DEMO_SCENE.lr)
    parser.add_argument("--steps", type=int, default=DEMO_SCENE.steps)
    parser.add_argument("--train", type=int, default=DEMO_SCENE.train)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first, _, last = arguments.seeds.partition("-")
    rows = []
    print("seed  mean map  untuned  tuned [m]   gain  abs_rel        delta1         mean depth")
    for seed in range(int(first), int(last or first) + 1):
        row = check(arguments.weights, seed, arguments.lr, arguments.steps, arguments.train, DEMO_SCENE.test)
        rows.append(row)
        _show(str(seed), row)
    _show("mean", tuple(np.mean(rows, 0)))


def _show(name: str, row: tuple[float, ...]) -> None:
    base, before, after, base_rel, rel, base_delta, delta, depth = row
    errors = f"{base:8.3f}  {before:7.3f}  {after:9.3f}  {1 - after / base:5.1%}"
    shares = f"{base_rel:.3f} -> {rel:.3f}  {base_delta:.3f} -> {delta:.3f}"
    print(f"{name:>4}  {errors}  {shares}  {depth:.2f}", flush=True)


if __name__ == "__main__":
    main()
