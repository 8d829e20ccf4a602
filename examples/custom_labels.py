"""Train a board on labels that you make yourself, with no session and no loop but your own.

    python examples/custom_labels.py upydnet.onnx my_frames.npz --update 'decoder0*,ups0*' -o learned.npz

The labels here come from a plane through the ToF zones. A wall or floor that fills the view is a plane, and
the disparity of a plane is linear in the image's coordinates, so that every pixel gets a label, also those
that the sensor does not see. Put your own function in the place of `plane_label`: a teacher network, say.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards import load_board
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from firmware_gen.weights import to_source
from ondevice.device import Hyper
from ondevice.session_files import write_arrays
from ondevice.training_data import inputs
from ondevice.workbench import open_board
from zoo.frames import open_frames
from zoo.prepare import label

Array = NDArray[Any]


def plane_label(disparity: Array, known: Array) -> Array:
    """Return the plane a + b row + c column of least squares through the known pixels, (height, width, 1)."""
    rows, columns = np.indices(disparity.shape[:2])
    terms = np.stack([np.ones_like(rows), rows, columns], axis=-1).astype(np.float64)
    seen = known[..., 0] > 0
    plane, *_ = np.linalg.lstsq(terms[seen], disparity[seen, 0], rcond=None)
    fitted: Array = np.maximum(terms @ plane, 0)[..., None].astype(np.float32)
    return fitted


def main() -> None:
    """Build, then send sample after sample and step after step."""
    args = arguments()
    network = load_network(args.model)
    plan = plan_network(network, load_board(args.board), parse_update(args.update))
    graph, task = plan.graph, network.needed_task()
    output, frames, step = task.learned[0], open_frames(args.frames), 0
    with tempfile.TemporaryDirectory() as folder, open_board(plan, Path(folder) / "project") as device:
        device.set_hyper(Hyper(lr=args.lr))
        for frame in frames:
            measured = label(frame, output, graph.shape(output.name), frames.geometry)
            if measured is None:
                continue  # the sensor saw nothing
            target = {graph.labels[0]: plane_label(*measured), graph.masks[0]: np.ones_like(measured[1])}
            device.put_sample(inputs(frame, task, graph) | target)
            print(f"step {step}: loss {device.step(step).losses[0]:.4f}")
            step += 1
        weights = device.read_role("weight")
    # In the model file's order and under its names, as torch's load_state_dict(..., strict=False) takes them.
    write_arrays(args.out, {name: to_source(graph.constants[name], w) for name, w in weights.items()})
    print(f"wrote {args.out}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train a board on labels that you make yourself.")
    parser.add_argument("model", type=Path, help="an ONNX file with its task (docs/your_model.md)")
    parser.add_argument("frames", type=Path, help="your data (docs/your_data.md)")
    parser.add_argument("--update", required=True, help="names or globs of the layers that learn")
    parser.add_argument("--board", default="native", help="a name that 'fieldtune boards' lists")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("-o", "--out", type=Path, required=True, help="the weights that learned, a .npz file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
