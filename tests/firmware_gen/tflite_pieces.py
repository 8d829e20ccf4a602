"""Pieces of TFLite models, to be put side by side: many operators in one model compile faster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from int8_proof import Case
from tflite_writer import Operation, Value, tflite_bytes


@dataclass(frozen=True)
class Piece:
    """Operators with their tensors; `inputs` and `outputs` are those of the model."""

    values: Sequence[Value]
    operations: Sequence[Operation]
    inputs: Sequence[str]
    outputs: Sequence[str]


def side_by_side(pieces: Iterable[Piece]) -> Case:
    """Return one model of pieces that know nothing of each other."""
    values: list[Value] = []
    operations: list[Operation] = []
    inputs: list[str] = []
    outputs: list[str] = []
    for k, piece in enumerate(pieces):

        def own(names: Sequence[str | None], k: int = k) -> list[str | None]:
            return [None if name is None else f"p{k}.{name}" for name in names]

        values += [replace(value, name=f"p{k}.{value.name}") for value in piece.values]
        operations += [replace(o, inputs=own(o.inputs), outputs=own(o.outputs)) for o in piece.operations]
        inputs += [f"p{k}.{name}" for name in piece.inputs]
        outputs += [f"p{k}.{name}" for name in piece.outputs]
    return Case(tflite_bytes(values, operations, inputs, outputs), note=f"{operations} {values}")
