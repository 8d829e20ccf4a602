"""Torch networks by what a user calls them: ``zoo:NAME`` or ``path.py:function``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.errors import ModelError, UserError
from zoo.export import load_zoo
from zoo.task import Task

if TYPE_CHECKING:
    from torch import nn

    TorchModel = tuple[nn.Module, Task, tuple[int, ...]]


def is_torch_model(model: str) -> bool:
    """Tell whether `model` names a torch network and no model file."""
    return model.startswith("zoo:") or ".py:" in model


def load_torch_model(model: str, weights: Path | None) -> TorchModel:
    """Return a network, its task and its input's shape (1, c, h, w).

    Args:
        model: ``zoo:NAME``, with the checkpoint `weights`, or ``path.py:function``: the function takes
            nothing and returns these three.
        weights: a checkpoint, for the zoo.

    Raises:
        UserError: there is no such network, the zoo's lacks its weights, or torch is missing.
        ModelError: the checkpoint or the user's function is broken.
    """
    if model.startswith("zoo:"):
        if weights is None:
            raise UserError(f"{model} needs a checkpoint; give it with --weights")
        return load_zoo(model.removeprefix("zoo:"), weights)
    if weights is not None:
        raise UserError(f"--weights is for networks of the zoo; let {model} load its own")
    return _call(model)


def _call(model: str) -> TorchModel:
    file, _, name = model.rpartition(":")
    if not Path(file).is_file():
        raise UserError(f"there is no {file}; write path.py:function")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
        module, task, shape = getattr(loaded, name)()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{model} does not return a network: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task) or not hasattr(module, "state_dict"):
        raise ModelError(f"{model} must return a torch module, a zoo.task.Task and the input's shape")
    return module, task, tuple(shape)
