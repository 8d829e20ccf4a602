"""What torch does not have as one function: ONNX resizing, pooled sizes, the losses with masks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Array = np.ndarray[Any, np.dtype[Any]]


def pool_count(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil: bool
) -> int:
    """Return the number of windows along an axis, as ONNX 1.17 and torch define it."""
    span = size + before + after - dilation * (kernel - 1) - 1
    count = (math.ceil(span / stride) if ceil else math.floor(span / stride)) + 1
    return count - 1 if ceil and (count - 1) * stride >= size + before else count


def resize_matrix(size: int, count: int, scale: float, mode: str, coordinates: str, rounding: str) -> Array:
    """Return the matrix (count, size) of an axis, after the ONNX specification of Resize."""
    k = np.arange(count)
    at = {
        "half_pixel": (k + 0.5) / scale - 0.5,
        "pytorch_half_pixel": (k + 0.5) / scale - 0.5 if count > 1 else 0.0 * k,
        "asymmetric": k / scale,
        "align_corners": k * (size - 1) / max(count - 1, 1),
    }[coordinates]
    matrix = np.zeros((count, size))
    if mode == "nearest":
        near = {
            "floor": np.floor(at),
            "ceil": np.ceil(at),
            "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5),
        }[rounding]
        matrix[k, np.clip(near, 0, size - 1).astype(int)] = 1
        return matrix
    low = np.floor(at)
    for neighbour, weight in ((low, 1 - (at - low)), (low + 1, at - low)):
        np.add.at(matrix, (k, np.clip(neighbour, 0, size - 1).astype(int)), weight)
    return matrix


def _berhu(p: torch.Tensor, t: torch.Tensor, known: torch.Tensor, published: bool) -> torch.Tensor:
    if not known.any():
        return p.sum() * 0
    top = t[known].max()
    everywhere = (p - torch.where(known, t, torch.tensor(-1.0).double())).abs() / top
    d = everywhere[known]
    limit = (everywhere if published else d).max().detach() / 5
    sign = -1 if published else 1
    return torch.where(d < limit, d, (d**2 + sign * limit**2) / (2 * limit)).mean()


def _cross_entropy(p: torch.Tensor, t: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    if not known.any():
        return p.sum() * 0
    classes = torch.where(known, t, torch.tensor(-100.0).double()).long()  # -100: what torch ignores
    return F.cross_entropy(p, classes[:, 0])


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": lambda p, t, known: ((p - t)[known] ** 2).mean() if known.any() else p.sum() * 0,
    "l1": lambda p, t, known: (p - t)[known].abs().mean() if known.any() else p.sum() * 0,
    "berhu": lambda p, t, known: _berhu(p, t, known, published=False),
    "berhu_published": lambda p, t, known: _berhu(p, t, known, published=True),
    "cross_entropy": _cross_entropy,
}
