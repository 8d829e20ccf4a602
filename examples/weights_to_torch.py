"""Read what a board has learned back into torch, and see that torch predicts what the board predicted.

    fieldtune tune upydnet.onnx --board native --data my_frames.npz --update 'decoder0*,ups0*' -o my_session
    python examples/weights_to_torch.py my_session -o tuned.pth

Here the network is µPyD-Net; for your own, put your module in its place. It needs torch:
``pip install 'fieldtune[torch]'``.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from ondevice.session import Session
from zoo.metrics import to_depth
from zoo.networks.upydnet import UPydNet
from zoo.task import find_task


def main() -> None:
    """Load, compare, save."""
    args = arguments()
    session = Session.open(args.session)
    network = UPydNet()
    network.load_state_dict(state_dict(args.session / "tuned.onnx"))
    # weights_after.npz holds only what learned, under the same names; strict=False leaves the rest alone.
    learned = {name: torch.from_numpy(value) for name, value in session.weights("after").items()}
    network.load_state_dict(learned, strict=False)

    kept = session.predictions()
    assert kept is not None, "this session has no depth output"
    difference = np.abs(predict(network, kept.rgb, args.session / "tuned.onnx") - kept.after)
    print(f"{len(learned)} tensors learned; torch and board differ by at most {difference.max():.1e} m")
    torch.save(network.state_dict(), args.out)
    print(f"wrote {args.out}")


def state_dict(model: Path) -> dict[str, torch.Tensor]:
    """Return the weights of an ONNX file from `zoo.export.export_onnx`, which keeps the module's names."""
    initializers = onnx.load(model).graph.initializer
    return {item.name: torch.tensor(onnx.numpy_helper.to_array(item)) for item in initializers}


def predict(network: torch.nn.Module, rgb: NDArray[np.uint8], model: Path) -> NDArray[np.float32]:
    """Return depth in metres (n, h, w) for pixels (n, h, w, 3), scaled and clamped as the task says."""
    task = find_task(model)
    pixels = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() * task.inputs[0].scale + task.inputs[0].bias
    with torch.no_grad():
        return to_depth(network(pixels).numpy()[:, 0], task.outputs[0])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Read what a board has learned back into torch.")
    parser.add_argument("session", type=Path, help="the folder that 'fieldtune tune -o' wrote")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the checkpoint to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
