"""Folding batch normalizations into the layers before them, for inference."""

from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound="nn.Module")


def folded(network: Network) -> Network:
    """Return `network`, for inference, with its batch normalizations folded into the layers before them.

    A layer ``name`` is normalized by ``name_norm`` of the same module. So the layers of an exported file have
    the names that they have here, and biases that can learn.
    """
    network.eval()
    for module in network.modules():
        for name, layer in list(module.named_children()):
            norm = getattr(module, f"{name}_norm", None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, f"{name}_norm", nn.Identity())
    return network
