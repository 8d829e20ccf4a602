"""Reading what torch.save has written, and telling what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fieldtune.errors import ModelError


def check_state(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], network: str, name: str, path: Path
) -> None:
    """Check that `state`, read from `path`, has the parameters of `own`, those of `network`.

    Args:
        name: what the zoo calls the network.

    Raises:
        ModelError: a parameter is missing, unknown or of another shape.
    """
    if missing := sorted(own.keys() - state.keys()):
        raise ModelError(f"{path} lacks {network}'s parameter {missing[0]}; give a checkpoint of {name}")
    if unknown := sorted(state.keys() - own.keys()):
        raise ModelError(
            f"{path} holds {unknown[0]}, which {network} does not have; give a checkpoint of {name}"
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise ModelError(
                f"{path}: {key} has shape {tuple(value.shape)} where {network} has {tuple(own[key].shape)}; "
                f"give a checkpoint of {name}"
            )


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the ``state_dict`` in `path`.

    Raises:
        ModelError: no such file, or no state dict in it.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror or error}; give the checkpoint with --weights"
        ) from error
    except Exception as error:  # torch raises whatever its unpickler meets in a broken file
        raise ModelError(f"{path} is no PyTorch checkpoint; save a state_dict with torch.save") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state_dict; save one with torch.save(network.state_dict(), ...)")
    return state
