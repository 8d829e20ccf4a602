"""What an operator is to the generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from numpy.typing import NDArray

from boards import Isa
from fieldtune.errors import ModelError
from firmware_gen.graph import Constant, DType, Graph, Op

if TYPE_CHECKING:
    from firmware_gen.schedule import Step
    from firmware_gen.storage import View


# Rows of a tensor, the end excluded.
Rows = tuple[int, int]
# What is saved where a kernel can have the one or the other.
Prefer = Literal["flash", "speed"]


class Tape(Protocol):
    """What an operator's backward may ask and add; see :mod:`firmware_gen.backward`."""

    graph: Graph
    gradients: DType  # of those that pass through int8 layers

    def gradient(self, tensor: str) -> str:
        """Return the tensor that holds dLoss/d`tensor`; all its contributions have been added."""

    def wants(self, tensor: str) -> bool:
        """Tell whether something that learns lies at or below `tensor`."""

    def learns(self, constant: str) -> bool:
        """Tell whether the update plan trains `constant`."""

    def add(self, op: Op, like: str) -> str:
        """Add a backward operator with one output of the shape of `like`; return the output's name."""

    def contribute(self, tensor: str, op: Op) -> None:
        """Add a backward operator whose output is a contribution to the gradient of `tensor`."""

    def contribute_channels(self, tensor: str, gradient: str, channels: Channels) -> None:
        """Add what `gradient` holds to the gradient of a range of the channels of `tensor`."""

    def add_integers(self, op: Op, like: str) -> str:
        """Add an operator that makes integers, a gradient whose range moves, or is exact where `op` knows."""

    def contribute_integers(self, tensor: str, op: Op) -> None:
        """Add what such an operator makes to the gradient of `tensor`."""

    def constant(self, constant: Constant) -> str:
        """Add a constant that only the backward pass reads; return its name."""

    def update(self, op: Op) -> None:
        """Add an operator that applies or keeps its constant's gradient."""

    def save(self, op: Op, name: str, count: int, dtype: DType) -> str:
        """Let the forward operator `op` write one more output for the backward pass; return its name."""


class Emitter(Protocol):
    """What an operator may ask for while it prints its C call; see :mod:`firmware_gen.emit.layers`."""

    isa: Isa  # the instructions that its kernel may use
    prefer: Prefer  # decides what constants are stored, never a result

    def rows(self, step: Step) -> str:
        """Return the C expressions of first and end row that `step` makes, as a kernel's last arguments."""

    def channels(self, count: int, multiple: int) -> str:
        """Return the C expressions of first and end output channel that this call makes of `count`.

        An operator that asks is given a share of them, and asks with these numbers alone.

        The first is a multiple of `multiple`, the end too or `count`; both are equal where there is nothing
        to make.
        """

    def cores(self, parts: int = 0) -> str:
        """Return the ft_cores_t of those that make a call together, which has so many parts for them.

        0: they divide rows and channels, too (`rows`, `channels`).
        """

    def prepare(self, statements: str) -> str:
        """Return what runs `statements` before any core makes rows; it may be printed where they are used.

        They fill what `shared` returns, for all rows that are made, and name no variable of their own.
        """

    def pointer(self, tensor: str) -> str:
        """Return the typed C pointer to logical row 0 of `tensor`."""

    def scratch(self, op: Op) -> str:
        """Return the C pointer to the operator's scratch bytes, aligned to 8; NULL when it asked for none."""

    def shared(self, op: Op) -> str:
        """Return the same of the scratch that all cores have in common."""

    def map(self, tensor: str) -> str:
        """Return the ft_map_t literal of `tensor`."""

    def strides(self, tensor: str) -> tuple[int, int]:
        """Return the strides of `tensor` from row to row and from pixel to pixel, in elements."""

    def aligned(self, tensor: str, bytes_: int) -> bool:
        """Tell whether every pixel of `tensor` begins at a multiple of so many bytes, 8 at most."""

    def grid(self, tensor: str) -> str:
        """Return the ft_grid_t of an int8 tensor, of this step if its range moves."""

    def range(self, tensor: str) -> str:
        """Return the C pointer to the moving range of `tensor`."""

    def range_rule(self, tensor: str) -> str:
        """Return the ft_moving_rule_t of the moving range of `tensor`."""

    def inside(self, part: str, whole: str, channel: int = 0) -> bool:
        """Tell whether the plan placed `part` where `whole` has its channel `channel`: nothing must move."""

    def weight(self, constant: str, axes: tuple[int, ...] | None = None) -> str:
        """Return the C pointer to `constant`; a frozen one lies in flash with its axes permuted to `axes`."""

    def learns(self, constant: str) -> bool:
        """Tell whether `constant` lies in RAM in its own order."""

    def array(self, name: str, values: NDArray[Any]) -> str:
        """Return the name of a constant array with these values: a weight packed for a kernel."""

    def table(self, name: str, c_type: str, rows: Sequence[str]) -> str:
        """Return the name of a constant table with these initializers."""

    def sink(self, constant: str, step: Step) -> tuple[str, str]:
        """Return what the ft_sink_t for the gradients of `constant` in `step` needs before it, and that."""


class Operator:
    """One kind of operator. Subclasses override what differs from an elementwise forward operator."""

    kind: ClassVar[str]
    learns: ClassVar[bool] = False  # its parameters have gradients
    row_by_row: ClassVar[bool] = False  # a row of the output is made from the same row of each input
    leaves_parts: ClassVar[bool] = False  # of its output, where the plan has put them in place
    accumulates: ClassVar[bool] = False  # sums over rows, to what is there: it has no rows of its own

    def macs(self, op: Op, graph: Graph) -> int:
        """Return the multiply-accumulates, taps in the padding counted as in the literature."""
        return 0

    def parameters(self, op: Op) -> tuple[str, ...]:
        """Return the constants that the network's author would count: weights and biases, no tables."""
        return ()

    def height(self, op: Op, graph: Graph) -> int:
        """Return the number of rows that the operator goes over: those of its first output, as a rule."""
        return graph.shape(op.outputs[0])[0] if op.outputs else 0

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        """Return which rows of input `k` are read for row `row` of :meth:`height`; empty ranges are allowed.

        None: the operator makes its output only as a whole. An operator that answers otherwise makes in
        :meth:`emit` no other rows than `Emitter.rows`, and in further outputs what belongs to these rows.
        """
        if not self.row_by_row:
            return None
        return (row, row + 1) if graph.shape(op.inputs[k])[0] > 1 else (0, 1)

    def tile_reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        """Return what :meth:`reach` does for tiles, between which what was prepared stays where it is."""
        return self.reach(op, graph, k, row)

    def overwrites(self, op: Op) -> tuple[int, ...]:
        """Return which inputs the first output may be stored over, value by value."""
        return ()

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        """Return the bytes that the kernel works in; `Emitter.scratch` tells where they lie."""
        return 0

    def shared_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        """Return the bytes besides these that all cores have in common; `Emitter.shared` tells where."""
        return 0

    def view(self, op: Op, graph: Graph, base: View) -> View | None:
        """Return where the output lies when it shares the storage of the first input, which lies at `base`.

        None: the output's values must be moved. An operator that answers otherwise moves them in
        :meth:`emit` only where the plan has not followed (`Emitter.inside`).
        """
        return None

    def backward(self, op: Op, tape: Tape) -> None:
        """Add the operators that carry the gradient from the outputs to the inputs and weights.

        Raises:
            ModelError: nothing can learn below this operator.
        """
        raise ModelError(
            f"layer '{op.name}' ({op.kind}) passes no gradient on: only layers behind it can be trained"
        )

    def emit(self, step: Step, c: Emitter) -> str:
        """Return the C statements that run `step`."""
        raise AssertionError(f"{self.kind} has no C")


@dataclass(frozen=True)
class Lowered:
    """An integer operator that has no place in a graph yet: importers and passes add it under a name."""

    kind: str
    attrs: object = None
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True)
class Channels:
    """A range of channels."""

    first: int
    end: int

    @property
    def count(self) -> int:
        """Number of channels."""
        return self.end - self.first
