"""From a model file to a C project: what the commands call."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from boards import Board, port_files
from boards.building import L3_FILE
from fieldtune.errors import ModelError, UserError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.cluster.config import team_config
from firmware_gen.emit.l3 import l3_image
from firmware_gen.emit.model import model_c
from firmware_gen.field import Buffer, Field
from firmware_gen.graph import Graph
from firmware_gen.importers.keras_file import import_keras
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.importers.tflite.file import import_tflite
from firmware_gen.kits import write_kit_files
from firmware_gen.link_parts import LinkParts
from firmware_gen.mlperf import mlperf_header
from firmware_gen.operators.base import Prefer
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.attach_task import attach_task
from firmware_gen.passes.half_products import half_products
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.passes.integer_outputs import integer_outputs
from firmware_gen.passes.latents import with_latents
from firmware_gen.plan import Plan, largest_payload, loss_slots, make_plan
from firmware_gen.protocol_header import protocol_header
from firmware_gen.update import UpdatePlan
from zoo.task import Task, find_task

RUNTIME = Path(__file__).parent / "runtime"
PLAN_FILE = "plan.json"
MAIN = "main.c"
LINK_HEADERS = ("link.h", "port.h", "sensors.h")


@dataclass(frozen=True)
class Network:
    """A model file that was read: its graph and what its inputs and outputs mean."""

    graph: Graph
    task: Task | None
    path: Path

    def needed_task(self) -> Task:
        """Return the task, without which nothing can be trained or fed with frames.

        Raises:
            ModelError: there is none.
        """
        if self.task is None:
            raise ModelError(
                f"{self.path} has no task: write one to {self.path.with_suffix('.task.toml').name} beside "
                "it, or give --task FILE (docs/your_model.md shows an example)"
            )
        return self.task


def load_network(model: Path, task_file: Path | None = None) -> Network:
    """Read a model (.onnx, .tflite, .keras, .h5) and its task.

    Raises:
        ModelError: the model or its task cannot be used.
    """
    graph = simplify(_import(model))
    task = find_task(model, task_file)
    if task is not None:
        graph = attach_task(graph, task)
    return Network(integer_layers(graph), task, model)


def _import(model: Path) -> Graph:
    if not model.is_file():
        raise ModelError(f"there is no model at {model}")
    if model.suffix == ".onnx":
        return import_onnx(model)
    if model.suffix == ".tflite":
        return import_tflite(model)
    if model.suffix in (".keras", ".h5"):
        return import_keras(model)
    raise ModelError(
        f"{model} is no .onnx, .tflite, .keras or .h5 file; export the network first (docs/your_model.md)"
    )


def plan_network(
    network: Network,
    board: Board,
    update: UpdatePlan,
    ram: int | None = None,
    prefer: Prefer = "flash",
    time: float | None = None,
    latents: str | None = None,
    mlperf: str | None = None,
    buffer: Buffer | None = None,
) -> Plan:
    """Plan inference, or training if the update plan names something that learns; see `make_plan`.

    `ram` and `time` are hard limits: bytes of static RAM, and estimated seconds. `latents` names the layer
    from whose output on a training step can be run as well. `mlperf` is the model's name in MLPerf Tiny's
    serial API, which the firmware then speaks in place of our link. `buffer` lets the board learn without a
    host.

    Raises:
        UserError: the plan matches nothing, no layer or no core can multiply in binary16, or there can be no
            latents.
        DoesNotFitError: too little memory or time.
    """
    graph = network.graph
    if mlperf is not None:
        _check_mlperf(graph, mlperf, bool(update.patterns))
    if update.patterns:
        graph = lighten(training_graph(graph, _losses(network), update))
    elif latents is not None:
        raise UserError("--latents is for training, and nothing would learn; name layers with --update")
    graph = integer_outputs(graph)
    if update.products == "f16":
        _check_half(board)
        graph = half_products(graph)
    if latents is not None:
        graph = with_latents(graph, latents)
    field = (
        None if buffer is None else Field.of(network.needed_task(), graph, buffer.samples, buffer.geometry)
    )
    return make_plan(graph, board, ram, prefer, time, mlperf, field)


def _check_half(board: Board) -> None:
    if board.xpulp and board.fpu is None:
        raise UserError(
            f"--products f16 is for cores with binary16 in hardware, and those of {board.id} have no "
            "floating-point unit; leave it out"
        )


def _losses(network: Network) -> tuple[LossSpec, ...]:
    learned = network.needed_task().learned
    if not learned:
        raise ModelError(
            f'no output of {network.graph.name} learns: each has labels = "none"; give one others in its task'
        )
    return tuple(LossSpec(spec.name, spec.loss, spec.weight) for spec in learned)


def _check_mlperf(graph: Graph, model: str, learns: bool) -> None:
    if learns:
        raise UserError("MLPerf Tiny's serial API only infers; leave out --update or --mlperf")
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", model):
        raise UserError(
            f"--mlperf {model!r} is no name of a model; give one such as kws01, ic01, vww01, ad01"
        )
    for name in graph.outputs:
        if graph.tensors[name].dtype not in ("f32", "i8", "u8"):
            raise ModelError(
                f"the output {name} is of type {graph.tensors[name].dtype}, which MLPerf Tiny's results "
                "cannot show; leave out --mlperf"
            )


def write_project(plan: Plan, out: Path) -> None:
    """Write the C project for `plan` to the folder `out`; an older project there is replaced as a whole.

    Raises:
        UserError: `out` is something else than a project, or cannot be written.
    """
    replace_project(out, lambda folder: _write_files(plan, folder))


def replace_project(out: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a project in an empty folder, which then takes the place of `out`, whole.

    Raises:
        UserError: `out` is something else than a project, or cannot be written.
    """
    if out.exists() and not (out / PLAN_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is no C project; name an empty or new folder with -o")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            fresh = Path(temporary) / "project"
            fresh.mkdir()
            write(fresh)
            if (out / "build").is_dir():
                (out / "build").rename(fresh / "build")  # unchanged objects need no second compilation
            if out.exists():
                out.rename(Path(temporary) / "old")
            fresh.rename(out)
    except OSError as error:
        raise UserError(f"cannot write the C project to {out}: {error.strerror or error}") from error


def write_runtime(plan: Plan, folder: Path) -> None:
    """Write what surrounds the model in any firmware: kernels and the link that the plan asks for."""
    parts = LinkParts.of(plan)
    for source in sorted(RUNTIME.rglob("*.[ch]")):
        relative = source.relative_to(RUNTIME)
        if _belongs(relative, plan) and parts.has(relative):
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (folder / "link" / "parts.h").write_text(parts.header())
    if plan.board.cluster is not None:
        (folder / "cluster" / "team_config.h").write_text(team_config(plan.board))
    if plan.mlperf is not None:
        (folder / "mlperf" / "config.h").write_text(mlperf_header(plan.graph, plan.mlperf))
    else:
        header = protocol_header(largest_payload(plan.board), loss_slots(plan.graph))
        (folder / "link" / "protocol.h").write_text(header)


def _belongs(source: Path, plan: Plan) -> bool:
    """Tell whether a file of the runtime is part of what goes around this plan's model."""
    if source.parts[0] == "link":
        return plan.mlperf is None or source.name in LINK_HEADERS
    if source.parts[0] == "field":
        return plan.mlperf is None
    if source.parts[0] == "cluster":
        return plan.board.cluster is not None and (source.stem != "l3" or plan.l3 is not None)
    if source.parts[0] == "mlperf":
        return plan.mlperf is not None
    return source.name != MAIN


def _write_files(plan: Plan, folder: Path) -> None:
    write_runtime(plan, folder / "runtime")
    shutil.copyfile(RUNTIME / MAIN, folder / "runtime" / MAIN)
    (folder / "port").mkdir()
    for name, text in port_files(plan.board).items():
        (folder / "port" / name).write_text(text)
    (folder / "model.c").write_text(model_c(plan, marks=plan.board.marks is not None))
    if plan.l3 is not None:
        (folder / L3_FILE).write_bytes(l3_image(plan))
    write_plan(plan, folder)
    if plan.board.kit is not None:
        write_kit_files(plan, folder)


def write_plan(plan: Plan, folder: Path) -> None:
    """Write ``plan.json``."""
    described = {**plan.describe(), "plan_hash": plan.hash()}
    (folder / PLAN_FILE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
