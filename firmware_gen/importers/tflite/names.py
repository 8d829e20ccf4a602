"""Short names of layers from the names that converters give to tensors.

A converter joins the names of all operations that it has fused: "net/relu/Relu;net/conv2d/BiasAdd". The layer
is the part that belongs to the operator itself, without the network's own name and the operation's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What the last component of a fused name is called where it names the layer itself, best first.
_OWN = {
    "CONV_2D": ("BiasAdd", "Conv2D", "convolution"),
    "DEPTHWISE_CONV_2D": ("BiasAdd", "depthwise"),
    "TRANSPOSE_CONV": ("BiasAdd", "conv2d_transpose"),
    "FULLY_CONNECTED": ("BiasAdd", "MatMul"),
}
# Names that say nothing: of an exported function's outputs, of what the converter has added, of the nameless.
_ANONYMOUS = re.compile(r"(Identity|(Stateful)?PartitionedCall|tfl?[._]|arith[._]|tensor\d+$)", re.IGNORECASE)


def layer_name(kind: str, output: str, weight: str, network: str) -> str:
    """Return the name of a layer that writes the tensor `output` and reads the constant `weight` ("": none).

    `network` is the first component of the paths, if they have all the same one.
    """
    own = _OWN.get(kind, (kind.replace("_", "").lower(),))
    for name in (output, weight):
        part = _own_part(name.split(";"), own)
        if part:
            return _layer(part, network)
    return kind.lower()


def network_name(names: Iterable[str]) -> str:
    """Return the first component that all paths share, "" if there is none."""
    first = {part.split("/")[0] for name in names for part in name.split(";") if part.count("/") >= 2}
    return first.pop() if len(first) == 1 else ""


def _own_part(parts: list[str], own: tuple[str, ...]) -> str:
    parts = [part for part in parts if part and not _ANONYMOUS.match(part)]
    for word in own:
        for part in parts:
            if re.fullmatch(rf"{word}[\d:]*", part.rsplit("/", 1)[-1], re.IGNORECASE):
                return part
    return parts[0] if parts else ""


def _layer(part: str, network: str) -> str:
    path = part.split("/")
    if len(path) > 1:
        path = path[:-1]
    if len(path) > 1 and path[0] == network:
        path = path[1:]
    return ".".join(path).removesuffix(":0")
