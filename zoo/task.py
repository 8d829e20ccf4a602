"""The task: what a network's inputs and outputs mean, as a TOML file that travels with the model.

::

    [input.image]
    scale = 0.00392156862745098     # network input = pixel * scale + bias
    [output.disparity]
    kind = "disparity"              # depth | disparity | segmentation | class | value
    fb = 80.0                       # disparity = fb / depth [m]; disparity only
    loss = "berhu"                  # berhu | berhu_published | l1 | mse | cross_entropy
    labels = "tof"                  # or "truth"; "none": judged, never learned from
    weight = 1.0                    # of the loss in the sum of all
    max_depth = 20.0                # metrics clamp predictions here; depth and disparity only
    crop = "garg"                   # metrics look at this part only: garg | eigen | nyu; likewise
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune.errors import ModelError

METADATA_KEY = "fieldtune.task"
"""The ONNX metadata property that carries the task file's text."""

_REGRESSION = ("berhu", "berhu_published", "l1", "mse")
_CLASSIFICATION = ("cross_entropy",)

LOSSES = _REGRESSION + _CLASSIFICATION
LOSSES_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "depth": _REGRESSION,
    "disparity": _REGRESSION,
    "segmentation": _CLASSIFICATION,
    "class": _CLASSIFICATION,
    "value": _REGRESSION,
}
"""The losses that each kind of output may have; the first is the default."""

NO_LABELS = "none"
"""The `labels` of an output that is predicted and judged, but never learned from."""

CROPS: Mapping[str, tuple[float, float, float, float]] = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
}
"""The part of a frame by which published figures judge depth: top, bottom, left, right as shares of its size.

Garg et al. 2016 and Eigen et al. 2014 for KITTI, Eigen's for NYUv2; the numbers are those of published code.
"""

_DEFAULT_MAX_DEPTH = 20.0
_WEIGHTS = (1e-6, 1e6)  # float32 keeps its precision on both sides


@dataclass(frozen=True)
class InputSpec:
    """An image input: network input = pixel * scale + bias, pixels are uint8."""

    name: str
    scale: float
    bias: float = 0.0


@dataclass(frozen=True)
class OutputSpec:
    """What an output means and how it learns.

    Args:
        name: the output's name in the model.
        kind: one of `LOSSES_OF_KIND`.
        loss: one of `LOSSES`.
        labels: "tof" (the board's own sensor), "truth" (what the data set brings) or `NO_LABELS`.
        fb: disparity = fb / depth [m]; None unless `kind` is "disparity".
        max_depth: metres; metrics clamp predictions here; None unless `kind` is "depth" or "disparity".
        crop: one of `CROPS`: true depth is judged there only; None: everywhere.
        weight: what its loss, and with it the loss's gradient, is multiplied by.
    """

    name: str
    kind: str
    loss: str
    labels: str
    fb: float | None = None
    max_depth: float | None = None
    crop: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Task:
    """All inputs and outputs of a network, in the order of the task file."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]

    @property
    def learned(self) -> tuple[OutputSpec, ...]:
        """The outputs that have a loss, in the order of the losses."""
        return tuple(spec for spec in self.outputs if spec.labels != NO_LABELS)


def parse_task(text: str, where: str) -> Task:
    """Read a task file's text; `where` names it in messages.

    Raises:
        ModelError: the text is not TOML, or a key or value is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{where} is not valid TOML: {error}") from error
    root = _Table(where, "", document, ("input", "output"))
    inputs = [_parse_input(name, table) for name, table in root.tables("input", ("scale", "bias"))]
    outputs = [
        _parse_output(name, table)
        for name, table in root.tables(
            "output", ("kind", "loss", "labels", "weight", "fb", "max_depth", "crop")
        )
    ]
    return Task(tuple(inputs), tuple(outputs))


def format_task(task: Task) -> str:
    """Return the task as TOML, such that ``parse_task(format_task(task), ...) == task``."""
    sections = []
    for spec in task.inputs:
        sections.append(_section(f"input.{_key(spec.name)}", {"scale": spec.scale, "bias": spec.bias}))
    for output in task.outputs:
        fields: dict[str, str | float | None] = {
            "kind": output.kind,
            "loss": output.loss,
            "labels": output.labels,
            "weight": output.weight,
            "fb": output.fb,
            "max_depth": output.max_depth,
            "crop": output.crop,
        }
        sections.append(_section(f"output.{_key(output.name)}", fields))
    return "\n".join(sections)


def find_task(model: Path, task_file: Path | None = None) -> Task | None:
    """Return the task of a model: `task_file`, else NAME.task.toml beside the model, else its ONNX metadata.

    None: the model has no task; it can be planned and verified, but not trained.

    Raises:
        ModelError: the task that is found is wrong, or a file cannot be read.
    """
    beside = model.with_suffix(".task.toml")
    if task_file is None and beside.is_file():
        task_file = beside
    if task_file is not None:
        return parse_task(_read(task_file), str(task_file))
    text = _onnx_metadata(model)
    return None if text is None else parse_task(text, f"the task in {model}")


class _Table:
    """A TOML table that knows where it stands, so that every message can name file and key."""

    def __init__(self, where: str, path: str, values: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
        self.where, self.path, self.values = where, path, values
        for key in values:
            if key not in allowed:
                raise ModelError(
                    f"{where}: unknown key {self._full(key)}; allowed here: {', '.join(allowed)}"
                )

    def _full(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def error(self, key: str, problem: str) -> ModelError:
        return ModelError(f"{self.where}: {self._full(key)} {problem}")

    def tables(self, key: str, allowed: tuple[str, ...]) -> list[tuple[str, "_Table"]]:
        """Return the named tables below `key`; at least one."""
        group = self.values.get(key)
        if not isinstance(group, dict) or not group:
            raise ModelError(
                f"{self.where}: there is no [{key}.NAME] section; add one for each {key} of the model"
            )
        for name, values in group.items():
            if not isinstance(values, dict):
                raise self.error(
                    f"{key}.{name}", f"is not a section; write [{key}.NAME] with keys {', '.join(allowed)}"
                )
        return [
            (name, _Table(self.where, f"{key}.{name}", values, allowed)) for name, values in group.items()
        ]

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.values.get(key, default)
        if value is None:
            raise self.error(key, f"is missing; use one of {', '.join(allowed)}")
        if value not in allowed:
            raise self.error(key, f"is {value!r}; use one of {', '.join(allowed)}")
        return str(value)

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key, default)
        if value is None:
            raise self.error(key, "is missing; give a number")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, f"is {value!r}; give a finite number")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if value <= 0:
            raise self.error(key, f"is {value}; give a number above 0")
        return value

    def within(self, key: str, limits: tuple[float, float], default: float) -> float:
        value, (least, most) = self.number(key, default), limits
        if not least <= value <= most:
            raise self.error(key, f"is {value:g}; give a number from {least:g} to {most:g}")
        return value

    def refuse(self, key: str, reason: str) -> None:
        if key in self.values:
            raise self.error(key, f"means nothing for {reason}; remove it")


def _parse_input(name: str, table: _Table) -> InputSpec:
    return InputSpec(name, table.number("scale"), table.number("bias", 0.0))


def _parse_output(name: str, table: _Table) -> OutputSpec:
    kind = table.choice("kind", tuple(LOSSES_OF_KIND))
    metric = kind in ("depth", "disparity")
    losses = LOSSES_OF_KIND[kind]
    sources = ("tof", "truth") if metric else ("truth",)
    spec = OutputSpec(
        name,
        kind,
        loss=table.choice("loss", losses, losses[0]),
        labels=table.choice("labels", (*sources, NO_LABELS), sources[0]),
        weight=table.within("weight", _WEIGHTS, 1.0),
        fb=table.positive("fb") if kind == "disparity" else None,
        max_depth=table.positive("max_depth", _DEFAULT_MAX_DEPTH) if metric else None,
        crop=table.choice("crop", tuple(CROPS)) if metric and "crop" in table.values else None,
    )
    if spec.fb is None:
        table.refuse("fb", f'kind = "{kind}"')
    if spec.max_depth is None:
        table.refuse("max_depth", f'kind = "{kind}"')
        table.refuse("crop", f'kind = "{kind}"')
    return spec


def _section(header: str, fields: Mapping[str, str | float | None]) -> str:
    lines = [f"[{header}]"]
    for key, value in fields.items():
        if value is not None:
            lines.append(f"{key} = {_quoted(value) if isinstance(value, str) else repr(float(value))}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's; only DEL must be escaped in TOML and is not in JSON.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot read the task file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"the task file {path} is not UTF-8 text") from error


def _onnx_metadata(model: Path) -> str | None:
    """Return the task's text in an ONNX file, or None where the file is no ONNX or carries none."""
    if not model.is_file():
        raise ModelError(f"there is no model at {model}")
    if model.suffix != ".onnx":
        return None
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(model, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelError(f"{model} cannot be read as an ONNX model; is it complete?") from error
    text = next((entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY), None)
    if isinstance(text, bytes):  # how protobuf hands out what is no UTF-8
        raise ModelError(f"the task in {model} is not UTF-8 text")
    return text
