"""Learning without a host: the sample buffer, and what the firmware must know to fill it and learn from it.

The C is in runtime/field/. docs/field.md tells what it is good for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fieldtune.errors import ModelError, UserError
from firmware_gen.graph import Graph, Tensor, gradient_name
from zoo.task import OutputSpec, Task
from zoo.tof import ZONES, TofGeometry, ZoneWeights, zone_weights

LOGGED_ROUNDS = 32
"""Rounds whose losses the firmware remembers, as in field.h."""

STATE_BYTES = 796
"""ft_field_state_t."""

CODE_BYTES = 3 * 1024
"""Roughly what runtime/field/ takes on Cortex-M."""

MOST_SAMPLES = 0xFFFF
LEAST_SIDE = 4  # FT_DRIFT_GRID
_WORD = 4
_BETWEEN_BYTES, _LABEL_BYTES, _BLOCK_BYTES, _FIELD_BYTES = 24, 40, 8, 104


@dataclass(frozen=True)
class Buffer:
    """A sample buffer as it is asked for: how many samples, and how the zones lie in the picture."""

    samples: int
    geometry: TofGeometry = field(default_factory=TofGeometry)


@dataclass(frozen=True)
class Field:
    """A sample buffer: frames at the network's size with the zones of the time-of-flight sensor.

    Args:
        samples: how many the buffer holds.
        outputs: what those of the network's outputs mean that learn.
        geometry: how the zones lie in the picture.
    """

    samples: int
    outputs: tuple[OutputSpec, ...]
    geometry: TofGeometry

    @classmethod
    def of(cls, task: Task, graph: Graph, samples: int, geometry: TofGeometry) -> Field:
        """Return the buffer for a network that learns.

        Raises:
            ModelError: the network's input is no colour image, or an output does not learn from zones.
            UserError: nothing learns, or so many samples cannot be numbered.
        """
        if not graph.trained:
            raise UserError(
                "--buffer keeps samples to learn from, and nothing would learn; name layers with --update"
            )
        if not 1 <= samples <= MOST_SAMPLES:
            raise UserError(f"--buffer is {samples}; give 1 to {MOST_SAMPLES} samples")
        shapes = [graph.shape(spec.name) for spec in task.inputs]
        if len(shapes) != 1 or shapes[0][2] != 3 or min(shapes[0][:2]) < LEAST_SIDE:
            raise ModelError(
                f"{graph.name} must have one colour image of 4 x 4 pixels or more as its input to learn from "
                "a board's own camera"
            )
        for spec in task.learned:
            if spec.labels != "tof" or graph.shape(spec.name)[2] != 1:
                raise ModelError(
                    f"output {spec.name} does not learn from the depth sensor, which is all that a board "
                    'without a host has; give a task with labels = "tof" or "none", or leave out --buffer'
                )
        return cls(samples, task.learned, geometry)

    def tensors(self, graph: Graph) -> tuple[Tensor, ...]:
        """Return what the host sees of the buffer, in the order of the C arrays."""
        height, width, channels = graph.shape(graph.inputs[0])
        return (
            Tensor("field.image", (self.samples, height, width * channels), "u8"),
            Tensor("field.distance_mm", (self.samples, ZONES, ZONES), "i16"),
            Tensor("field.target_status", (self.samples, ZONES, ZONES), "u8"),
        )

    def ram(self, graph: Graph) -> dict[str, int]:
        """Return the static RAM that it takes, in bytes."""
        return {
            "buffer": sum(_words(tensor.bytes) for tensor in self.tensors(graph)),
            "kept": sum(_words(tensor.bytes) for tensor in kept_tensors(graph).values()),
            "field": STATE_BYTES,
        }

    def constant_bytes(self, graph: Graph) -> int:
        """Return the bytes of its tables in flash."""
        between = {text: len(rows.zones) for rows in self._tables(graph) for text in [_between(rows)]}
        tables = _BETWEEN_BYTES * sum(between.values()) + _LABEL_BYTES * len(self.outputs)
        return tables + _BLOCK_BYTES * len(kept_tensors(graph)) + _FIELD_BYTES

    def describe(self) -> dict[str, Any]:
        """Return what plan.json says of it."""
        return {"samples": self.samples, "geometry": vars(self.geometry)}

    def arrays(self, graph: Graph) -> Iterator[str]:
        """Yield the C arrays in RAM."""
        types = {"u8": "uint8_t", "i16": "int16_t"}
        for tensor in self.tensors(graph):
            count = _words(tensor.bytes) * math.prod(tensor.shape) // tensor.bytes
            array = f"{types[tensor.dtype]} {_array(tensor.name)}[{count}]"
            yield f"static {array} __attribute__((aligned(4)));\n"
        kept = self.ram(graph)["kept"]
        yield f"static uint8_t field_kept[{kept}] __attribute__((aligned(4)));\n"
        yield "static ft_field_state_t field_state;\n"

    def entries(self, graph: Graph) -> Iterator[tuple[str, str, Tensor, str]]:
        """Yield name, C pointer, tensor and role of each entry in the table of tensors."""
        for tensor in self.tensors(graph):
            yield tensor.name, f"(uint8_t *){_array(tensor.name)}", tensor, "FT_FIELD"
        rounds = Tensor("field.rounds", (LOGGED_ROUNDS, 1, 2))
        yield rounds.name, "(uint8_t *)field_state.log", rounds, "FT_FIELD"

    def tables(
        self, graph: Graph, places: Mapping[str, str], kept: Mapping[str, str], loss_parts: Sequence[int]
    ) -> Iterator[str]:
        """Yield the C tables.

        Args:
            graph: the training graph.
            places: C pointers (uint8_t *) of input, labels and masks, by name.
            kept: C pointers of what a round may change, by name.
            loss_parts: which parts of a training step compute losses.
        """
        known: dict[str, str] = {}
        labels = []
        tables = self._tables(graph)
        for spec, label, mask in zip(self.outputs, graph.labels, graph.masks, strict=True):
            height, width, _ = graph.shape(spec.name)
            names = []
            for rows in (next(tables), next(tables)):
                text = _between(rows)
                if text not in known:
                    known[text] = f"between_{len(known)}"
                    yield f"static const ft_between_t {known[text]}[{len(rows.zones)}] = {{\n{text}}};\n"
                names.append(known[text])
            fb = float(spec.fb or 0.0).hex()
            labels.append(
                f"{{(float *)({places[label]}), {places[mask]}, {', '.join(names)}, {height}, {width}, {fb}}}"
            )
        yield "static const ft_tof_label_t tof_labels[] = {\n"
        yield from (f"    {label},\n" for label in labels)
        yield "};\nstatic const ft_block_t kept_blocks[] = {\n"
        for name, tensor in kept_tensors(graph).items():
            yield f"    {{{kept[name]}, {tensor.bytes}}},\n"
        yield "};\n"
        parts = ", ".join(map(str, loss_parts))
        yield f"static const uint16_t loss_parts[] = {{{parts}}};\n"
        yield from self._descriptor(graph, places)

    def _descriptor(self, graph: Graph, places: Mapping[str, str]) -> Iterator[str]:
        height, width, _ = graph.shape(graph.inputs[0])
        status = [0] * 8
        for code in self.geometry.valid_status:
            if 0 <= code < 256:
                status[code // 32] |= 1 << code % 32
        # distance < max_range is distance < its ceiling, for whole millimetres.
        end = min(math.ceil(self.geometry.max_range_m * 1000), 1 << 15)
        yield "static const ft_field_t field = {\n"
        yield f"    .valid = {{{{{', '.join(f'{word:#010x}u' for word in status)}}}, {end}}},\n"
        yield f"    .input = {places[graph.inputs[0]]},\n    .height = {height},\n    .width = {width},\n"
        yield "    .labels = tof_labels,\n    .label_count = sizeof tof_labels / sizeof tof_labels[0],\n"
        yield "    .loss_parts = loss_parts,\n"
        yield "    .loss_count = sizeof loss_parts / sizeof loss_parts[0],\n"
        yield f"    .capacity = {self.samples},\n    .images = field_image,\n"
        yield "    .distance_mm = field_distance_mm,\n    .target_status = field_target_status,\n"
        yield "    .blocks = kept_blocks,\n    .block_count = sizeof kept_blocks / sizeof kept_blocks[0],\n"
        yield "    .kept = field_kept,\n    .state = &field_state,\n};\n\n"

    def _tables(self, graph: Graph) -> Iterator[ZoneWeights]:
        for spec in self.outputs:
            height, width, _ = graph.shape(spec.name)
            yield zone_weights(height, 1, self.geometry)
            yield zone_weights(width, 0, self.geometry)


def kept_tensors(graph: Graph) -> dict[str, Tensor]:
    """Return what a round may change and must be able to undo: weights, state, ranges."""
    kept = {name: graph.learned(name) for name in graph.trained}
    kept |= graph.state
    kept |= {f"range.{name}": Tensor(f"range.{name}", (1, 1, 2)) for name in graph.ranges}
    if any(gradient_name(name) in graph.state for name in graph.trained):
        kept["accumulated"] = Tensor("accumulated", (1, 1, 1), "i32")
    return kept


def _array(tensor: str) -> str:
    return tensor.replace(".", "_")


def _between(rows: ZoneWeights) -> str:
    lines = (
        f"    {{{{{float(u).hex()}, {float(v).hex()}}}, {{{a}, {b}}}}},\n"
        for (a, b), (u, v) in zip(rows.zones, rows.weights, strict=True)
    )
    return "".join(lines)


def _words(size: int) -> int:
    return -(-size // _WORD) * _WORD
