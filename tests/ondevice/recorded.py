"""Finished sessions to draw reports of."""

from pathlib import Path
from typing import Any

import numpy as np

from ondevice.session import Session

CONFIG = {
    "model": "models/upydnet_source.onnx",
    "board": "mps2_an500",
    "task": "disparity: berhu, labels from tof",
    "update": ["decoder0*", "ups0*"],
    "lr": 0.05,
    "steps": 120,
    "test": 50,
    "seed": 0,
    "model_hash": "0x8c1d23aa",
    "versions": {"fieldtune": "0.1.0", "python": "3.11", "qemu-system-arm": "8.2.2"},
}
RESULTS = {
    "steps": 120,
    "before": {"rmse": 8.4858, "abs_rel": 4.4351, "delta1": 0.0023},
    "after": {"rmse": 0.3551, "abs_rel": 0.1647, "delta1": 0.7352},
    "baselines": {
        "mean_map": {"rmse": 0.3729, "abs_rel": 0.2084, "delta1": 0.5958},
        "scale_only": {"rmse": 1.4965, "abs_rel": 0.7248, "delta1": 0.1977},
    },
    "seconds": 148.5,
    "resent_frames": 7,
}
AWKWARD = "averyveryveryverylongnamewithoutanyplacetobreakit_" * 3 + "<script>alert('&')</script>"


def plan(prefix: str = "") -> dict[str, Any]:
    """Return a plan whose tensors are in use as those of a network of 12 layers and its backward pass."""
    layers, side = 12, [1, 1, 2, 2, 3, 3, 3, 3, 2, 2, 1, 1]
    tensors, top = [], 0
    for k in range(layers):
        size = 96 * 1024 // side[k]
        last = 2 * layers - k if k > 5 else k + 1
        tensors.append({"name": f"{prefix}conv{k}", "bytes": size, "offset": top, "first": k, "last": last})
        top += size
    arena = {"region": "arena"}
    return {
        "ram_bytes": top + 137_000,
        "arena_bytes": top,
        "stack_bytes": 2048,
        "flash_bytes": 489_120,
        "macs_forward": 79_760_000,
        "macs_backward": 61_000_000,
        "trained": [f"{prefix}decoder0.conv0.weight", "ups0.bias"],
        "tensors": [tensor | arena for tensor in tensors] + [{"name": "constant", "bytes": 12}],
        "steps": [f"{prefix}conv{k % layers} {'backward' if k >= layers else 'forward'}" for k in range(24)],
        "ram": {"arena": top, "weights": 127_000, "link": 8_000, "state": 2_000},
    }


def record(path: Path, config: dict[str, Any], loss: str = "disparity", prefix: str = "") -> Path:
    """Record a finished session of 120 steps with 7 held-out frames."""
    rng = np.random.default_rng(3)
    with Session.create(path, config) as session:
        session.save_plan(plan(prefix))
        for step in range(1, 121):
            value = 0.4 * np.exp(-step / 30) + 0.05 + 0.02 * rng.random()
            session.record_step(step, {loss: value}, 1.2 + rng.random() / 10, int(step % 40 == 0))
        rows = np.linspace(1, 3, 48)[:, None] + np.zeros((7, 48, 48))
        truth = np.where(rng.random(rows.shape) < 0.05, 0, rows)
        rgb = rng.integers(0, 256, (7, 48, 48, 3))
        session.save_predictions(rgb, truth, rows + 6, rows + rng.normal(0, 0.2, rows.shape))
        session.finish(RESULTS)
    return path
