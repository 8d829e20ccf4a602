"""Rewrites of the graph: one pass, one file, one function ``Graph -> Graph``."""

from firmware_gen.graph import Graph, check
from firmware_gen.passes.dequantize_again import dequantize_again
from firmware_gen.passes.fold_affine import fold_affine
from firmware_gen.passes.fold_channels_first import fold_channels_first
from firmware_gen.passes.fuse_activation import fuse_activation
from firmware_gen.passes.join_sums import join_sums
from firmware_gen.passes.name_tensors import name_tensors
from firmware_gen.passes.narrow_gradients import narrow_gradients
from firmware_gen.passes.sign_bits import sign_bits


def simplify(graph: Graph) -> Graph:
    """Return the imported `graph` with fewer operators and the same results."""
    for rewrite in (fold_affine, fold_channels_first, fuse_activation, name_tensors):
        graph = check(rewrite(graph))
    return graph


def lighten(graph: Graph) -> Graph:
    """Return the training `graph` with less to compute and to keep."""
    for rewrite in (join_sums, narrow_gradients, sign_bits, dequantize_again):
        graph = check(rewrite(graph))
    return graph
