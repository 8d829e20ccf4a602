"""Dilated convolutions that a converter has written as three operators.

SPACE_TO_BATCH_ND pads a map and cuts it into block x block maps of every block-th pixel, a convolution
without padding works on each, BATCH_TO_SPACE_ND puts the results together and crops them. That is one
convolution with the block as dilation, and with the padding less the crops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from firmware_gen.importers.tflite.node import Node
from firmware_gen.importers.tflite.window import VALID
from firmware_gen.window import Pair

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def dilated(nodes: Sequence[Node], outputs: Collection[int]) -> dict[int, Node | None]:
    """Return what takes the place of nodes, by their position: the joined convolution, or None for nothing.

    `outputs`: tensors that must stay.
    """
    readers: dict[int, list[Node]] = {}
    for node in nodes:
        for tensor in node.inputs:
            if tensor is not None:
                readers.setdefault(tensor.index, []).append(node)

    def only_reader(node: Node) -> Node | None:
        found = readers.get(node.outputs[0].index, [])
        return found[0] if len(found) == 1 and node.outputs[0].index not in outputs else None

    position = {id(node): k for k, node in enumerate(nodes)}
    changed: dict[int, Node | None] = {}
    for cut in nodes:
        conv = only_reader(cut) if cut.kind == "SPACE_TO_BATCH_ND" else None
        back = only_reader(conv) if conv is not None and conv.kind in CONVOLUTIONS else None
        if conv is not None and back is not None and back.kind == "BATCH_TO_SPACE_ND":
            whole = _join(cut, conv, back)
            if whole is not None:
                changed |= {position[id(cut)]: None, position[id(conv)]: None, position[id(back)]: whole}
    return changed


def _join(cut: Node, conv: Node, back: Node) -> Node | None:
    """Return the dilated convolution, None where the three are something else."""
    options = conv.options
    if options is None or conv.inputs[0] is not cut.outputs[0]:
        return None
    steps = (options.StrideH(), options.StrideW(), options.DilationHFactor(), options.DilationWFactor())
    if options.Padding() != VALID or steps != (1, 1, 1, 1) or cut.tensor(0).rank != 4:
        return None
    block = [int(size) for size in cut.value(1).ravel()]
    padding = [int(size) for size in cut.value(2).ravel()]
    crops = [int(size) for size in back.value(2).ravel()]
    if len(block) != 2 or block != back.value(1).ravel().tolist() or not len(padding) == len(crops) == 4:
        return None
    pads = [pad - crop for pad, crop in zip(padding, crops, strict=True)]
    if min(*pads, *crops) < 0:
        return None
    rows: Pair = (pads[0], pads[1])
    columns: Pair = (pads[2], pads[3])
    inputs = (cut.inputs[0], *conv.inputs[1:])
    return dataclasses.replace(
        conv, inputs=inputs, outputs=back.outputs, dilation=(block[0], block[1]), pads=(rows, columns)
    )
