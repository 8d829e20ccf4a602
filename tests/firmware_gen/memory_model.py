"""Runs a plan's steps on tags instead of values, byte for byte: a tensor that is overwritten too early shows.

It knows views, offsets and operators' inputs and outputs, and nothing of how the planner chose them.
"""

import numpy as np

from firmware_gen.graph import ITEM_BITS, Graph, Op
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Channels
from firmware_gen.plan import Plan
from firmware_gen.schedule import Chain, Step

NOBODY = -1
VIEWS = ("slice", "reshape")  # their output may share the input's storage


class MemoryModel:
    """The arena, each byte labelled with the value that it belongs to."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._graph = plan.graph
        self._memory = np.full(plan.arena_bytes, NOBODY, np.int64)
        self._makers = {name: op for op in self._graph.ops for name in op.outputs}
        self._tags: dict[str, np.ndarray] = {}
        self._next = 0

    def run(self, *phases: str) -> None:
        """Let the host write, run the steps of these phases, and let the host read the outputs."""
        graph = self._graph
        for name in (*graph.inputs, *graph.labels, *graph.masks):
            self._write(name)
        for step in self._plan.steps:
            if step.op.phase not in phases:
                continue
            if step.chain is not None:
                self._band(step, step.chain)
            else:
                self._step(step.op)

    def assert_holds(self, name: str) -> None:
        """Assert that `name` lies where the plan says, whole."""
        found = self._memory[self._bytes(name)]
        assert (found == self.tags(name)[..., None]).all(), f"{name} has been overwritten"

    def assert_dense(self, name: str) -> None:
        """Assert that the host can read `name` from its buffer's offset on."""
        where = self._bytes(name).ravel()
        start = self._plan.offsets[self._plan.views[name].buffer]
        assert (where == start + np.arange(where.size)).all(), f"{name} is not dense"

    def _band(self, step: Step, chain: Chain) -> None:
        """Move the rows that are still needed, and make the rows of one step in a chain."""
        position = next(k for k, op in enumerate(chain.ops) if op is step.op)
        for buffer, roll in self._plan.rolls.items():
            if roll.chain is chain and roll.writers[0] == position and roll.moves[step.band]:
                size = roll.row * ITEM_BITS[self._graph.tensors[buffer].dtype] // 8
                start, count = self._plan.offsets[buffer], roll.moves[step.band] * size
                source = start + (roll.firsts[step.band] - roll.firsts[step.band - 1]) * size
                (bytes_,) = [b.bytes for b in self._plan.buffers if b.name == buffer]
                assert source + count <= start + bytes_, f"rows behind the end of {buffer} move"
                self._memory[start : start + count] = self._memory[source : source + count].copy()
        for region in step.reads:
            found = self._memory[self._bytes(region.tensor, step)[slice(*region.rows)]]
            expected = self.tags(region.tensor)[slice(*region.rows), ..., None]
            if self._graph.tensors[region.tensor].dtype == "bits":
                found, expected = (
                    self._memory[self._bytes(region.tensor)],
                    self.tags(region.tensor)[..., None],
                )
            assert (found == expected).all(), f"rows of {region.tensor} have been overwritten"
        if step.rows[0] == step.rows[1]:
            return
        if OPERATORS[step.op.kind].accumulates:
            self._accumulate(step)
            return
        y, *others = step.op.outputs
        rows = slice(*step.rows)
        if self._graph.tensors[y].dtype == "bits":
            rows = slice(0, 1)
        for name in (*others, *step.op.scratch):
            self._write(name)
        if not self._is_copied(step.op):
            self._memory[self._bytes(y, step)[rows]] = self.tags(y)[rows, ..., None]
            self._assert_inside(y, step, rows)
            return
        where, first = self._bytes(y, step)[rows], 0
        for part in step.op.inputs:
            count = self._graph.shape(part)[2] if step.op.kind == "concat" else where.shape[2]
            source = self._bytes(part, step)[rows]
            if step.op.kind == "slice":
                assert isinstance(step.op.attrs, Channels)
                source = source[:, :, step.op.attrs.first : step.op.attrs.end]
            self._memory[where[:, :, first : first + count]] = self._memory[source]
            first += count

    def _accumulate(self, step: Step) -> None:
        """Add some rows to outputs that are there, but for those of the first rows."""
        for name in (*step.op.outputs, *step.op.scratch):
            if step.rows[0] and name in step.op.outputs:
                self.assert_holds(name)
            self._write(name)

    def _is_copied(self, op: Op) -> bool:
        return op.kind in ("concat", "slice")

    def _assert_inside(self, name: str, step: Step, rows: slice) -> None:
        where, root = self._bytes(name, step)[rows], self._plan.views[name].buffer
        (buffer,) = [buffer for buffer in self._plan.buffers if buffer.name == root]
        start = self._plan.offsets[root]
        assert where.min() >= start, f"{name} is written before its buffer"
        assert where.max() < start + buffer.bytes, f"{name} is written behind its buffer"

    def _step(self, op: Op) -> None:
        for name in op.inputs:
            self.assert_holds(name)
        before = {name: self._bytes(name) for name in op.inputs}
        if op.kind in VIEWS and np.isin(self._bytes(op.outputs[0]), before[op.inputs[0]]).all():
            return  # a view: nothing runs
        for name in op.outputs:
            self._check_overlap(op, name, before)
        if op.kind == "concat":
            self._join(op)
            return
        for name in (*op.outputs, *op.scratch):
            self._write(name)

    def _join(self, op: Op) -> None:
        """Copy the parts to their places one by one, but those that lie there: what Concat's C does."""
        (whole,) = op.outputs
        where, first = self._bytes(whole), 0
        for part in op.inputs:
            source, end = self._bytes(part), first + self._graph.shape(part)[2]
            if not np.array_equal(source, where[:, :, first:end]):
                self._memory[where[:, :, first:end]] = self._memory[source]
            first = end

    def _check_overlap(self, op: Op, output: str, before: dict[str, np.ndarray]) -> None:
        written = self._bytes(output)
        allowed = OPERATORS[op.kind].overwrites(op) if output == op.outputs[0] else ()
        for k, name in enumerate(op.inputs):
            if not np.intersect1d(written, before[name]).size:
                continue
            if op.kind == "concat":
                continue  # whoever reads the whole notices a part that lies in the wrong place
            same = any(np.array_equal(written, before[op.inputs[a]]) for a in allowed)
            assert same, f"{op.name} ({op.kind}) writes {output} over its input {name}, number {k}"
            assert np.array_equal(written, before[name]), f"{output} and {name} overlap, shifted"

    def _write(self, name: str) -> None:
        where = self._bytes(name)
        assert where.min() >= 0
        assert where.max() < self._memory.size, f"{name} lies outside of the arena"
        self._memory[where] = self.tags(name)[..., None]

    def tags(self, name: str) -> np.ndarray:
        """Return the labels of the values of `name`; slices, reshapes and concatenations keep them."""
        if name not in self._tags:
            self._tags[name] = self._new_tags(name)
        return self._tags[name]

    def _new_tags(self, name: str) -> np.ndarray:
        op = self._makers.get(name)
        if op is not None and op.kind == "slice":
            assert isinstance(op.attrs, Channels)
            return self.tags(op.inputs[0])[:, :, op.attrs.first : op.attrs.end]
        if op is not None and op.kind == "reshape":
            return self.tags(op.inputs[0]).reshape(self._graph.shape(name))
        if op is not None and op.kind == "concat":
            return np.concatenate([self.tags(x) for x in op.inputs], axis=2)
        shape = _packed_shape(self._graph, name)
        count = int(np.prod(shape))
        self._next += count
        return np.arange(self._next - count, self._next).reshape(shape)

    def _bytes(self, name: str, step: Step | None = None) -> np.ndarray:
        """Return the addresses of all bytes: (rows, columns, channels, bytes of a value).

        Of a tensor of which only some rows exist, where the others would be at this step.
        """
        tensor, view = self._graph.tensors[name], self._plan.views[name]
        start = self._plan.offsets[view.buffer]
        if view.buffer in self._plan.rolls:
            assert step is not None, f"{name} never exists whole"
            roll = self._plan.rolls[view.buffer]
            start -= roll.firsts[step.band] * roll.row * ITEM_BITS[tensor.dtype] // 8
        if tensor.dtype == "bits":
            assert view.channel == 0
            return start + np.arange(tensor.bytes).reshape(1, 1, -1, 1)
        rows, columns, channels = (np.arange(n) for n in tensor.shape)
        items = (
            view.channel
            + rows[:, None, None] * view.row
            + columns[None, :, None] * view.pixel
            + channels[None, None, :]
        )
        size = ITEM_BITS[tensor.dtype] // 8
        return start + items[..., None] * size + np.arange(size)


def _packed_shape(graph: Graph, name: str) -> tuple[int, int, int]:
    tensor = graph.tensors[name]
    return (1, 1, tensor.bytes) if tensor.dtype == "bits" else tensor.shape
