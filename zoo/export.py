"""From a torch network to one ONNX file that carries its task."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.errors import ModelError, UserError
from fieldtune.files import write_bytes
from zoo.task import METADATA_KEY, InputSpec, OutputSpec, Task, format_task

if TYPE_CHECKING:
    from torch import nn

OPSET = 17

UPYDNET_TASK = Task(
    inputs=(InputSpec("image", scale=1 / 255),),
    outputs=(OutputSpec("disparity", "disparity", "berhu", "tof", fb=80.0, max_depth=20.0),),
)

CLASS_TASK = Task(
    inputs=(InputSpec("image", scale=1 / 255),),
    outputs=(OutputSpec("class", "class", "cross_entropy", "truth"),),
)

# Disparities of rooms are about 1 with this fb, so that the three outputs are of one size.
MULTITASK_OUTPUTS = (
    OutputSpec("disparity", "disparity", "berhu", "tof", fb=2.0, max_depth=10.0),
    OutputSpec("segments", "segmentation", "cross_entropy", "truth"),
    OutputSpec("steer", "class", "cross_entropy", "truth"),
)
"""What the heads of `zoo.networks.multitask` say, in their order."""

ZOO = ("ds-cnn", "mcunet", "multitask", "resnet8", "upydnet")
"""Networks that `load_zoo` knows."""


def multitask_task(heads: Sequence[str]) -> Task:
    """Return the task of a multi-task network with some of its heads."""
    outputs = tuple(spec for spec in MULTITASK_OUTPUTS if spec.name in heads)
    return Task((InputSpec("image", scale=1 / 255),), outputs)


def load_zoo(name: str, weights: Path) -> "tuple[nn.Module, Task, tuple[int, ...]]":
    """Return a network of the zoo with a checkpoint's weights, its task and its input's shape (n, c, h, w).

    Raises:
        UserError: there is no such network, or torch is not installed.
        ModelError: the checkpoint is missing, broken or another network's.
    """
    if name not in ZOO:
        raise UserError(f"there is no zoo:{name}; the zoo has {', '.join(f'zoo:{known}' for known in ZOO)}")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UserError("exporting a torch network needs torch: pip install 'fieldtune[torch]'") from error
    from zoo.networks import classifiers, mcunet, multitask, upydnet

    if name == "multitask":
        network = multitask.load_checkpoint(weights)
        return network, multitask_task(tuple(network.heads)), multitask.INPUT_SHAPE
    if name == "ds-cnn":
        return classifiers.load_ds_cnn(weights), CLASS_TASK, classifiers.INPUT_SHAPE
    if name == "resnet8":
        return classifiers.load_resnet8(weights), CLASS_TASK, classifiers.INPUT_SHAPE
    if name == "mcunet":
        return mcunet.load_checkpoint(weights), CLASS_TASK, mcunet.INPUT_SHAPE
    return upydnet.load_checkpoint(weights), UPYDNET_TASK, upydnet.INPUT_SHAPE


def export_onnx(module: "nn.Module", task: Task, input_shape: tuple[int, ...], path: Path) -> None:
    """Write `module` with one input of `input_shape` to `path`: opset 17, weights inside, the task in the
    metadata.

    Inputs and outputs are named as in `task`, initializers as in ``module.state_dict()``, and a node after
    the module that it stands for. The same weights give the same bytes.

    Raises:
        ModelError: torch cannot express the module in ONNX, or the task does not name its outputs.
        UserError: the file cannot be written.
    """
    import onnx
    import torch

    buffer = io.BytesIO()
    was_training = module.training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the TorchScript exporter: see below
            # The newer, dynamo exporter renames initializers, and update plans go by their names.
            torch.onnx.export(
                module.eval(),
                (torch.zeros(input_shape),),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=[spec.name for spec in task.inputs],
                output_names=[spec.name for spec in task.outputs],
            )
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"torch cannot export {type(module).__name__} to ONNX: {error}") from error
    finally:
        module.train(was_training)
    model = onnx.load_from_string(buffer.getvalue())
    outputs = [output.name for output in model.graph.output]
    if outputs != [spec.name for spec in task.outputs]:
        raise ModelError(
            f"the task does not name the network's outputs one by one; it has {', '.join(outputs)}"
        )
    onnx.helper.set_model_props(model, {METADATA_KEY: format_task(task)})
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString(deterministic=True))
