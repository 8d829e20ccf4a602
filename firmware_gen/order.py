"""The order of operators: of those that give the same values, one in which less is alive.

A beam search over the sets of operators that have run (Ahn et al. 2020, "Ordering chaos", search all of
them). Orders compare by their peak, then by how many bytes are alive near it: row bands may lower the peak
itself. At operators that have not run, what counts is what must be alive there in any order that begins so.
Which tensors share storage is taken from the model's order; a new order is taken only if it needs less when
storage is chosen for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from firmware_gen.arena import alive_bytes
from firmware_gen.graph import Graph
from firmware_gen.schedule import whole_layers
from firmware_gen.storage import Storage, choose_storage

WIDTH = 32  # sets that are followed at a time
POWER = 8  # the larger, the less counts what lies far below the peak

# Operators as bits of a number.
OpSet = int


def least_alive(graph: Graph) -> Graph:
    """Return `graph` in the order that needs the fewest bytes, as far as the search sees."""
    storage = choose_storage(whole_layers(graph))
    found = graph.with_ops(graph.ops[index] for index in _Search(graph, storage).run())
    return min((graph, found), key=_need)


def _need(graph: Graph) -> tuple[int, int]:
    storage = choose_storage(whole_layers(graph))
    return _weight(alive_bytes(storage.buffers, len(graph.ops)))


def _weight(alive: Sequence[int]) -> tuple[int, int]:
    """Return what is compared of the bytes alive at each operator: the peak, then how much is near it."""
    return max(alive), sum(bytes_**POWER for bytes_ in alive)


@dataclass(frozen=True)
class Shared:
    """A buffer that may be needed sooner or later."""

    name: str
    bytes: int
    writers: OpSet  # none: the host writes it
    users: OpSet  # all that must have run before it is free


@dataclass(frozen=True)
class _State:
    """Operators that have run, in the order `ran`."""

    ran: tuple[int, ...]
    done: OpSet
    alive: int  # bytes that operators to come still need
    bytes: tuple[int, ...]  # alive at each operator: of those that have not run, at least

    @property
    def cost(self) -> tuple[int, int, tuple[int, ...]]:
        return *_weight(self.bytes), self.ran  # among equals the model's order


class _Search:
    def __init__(self, graph: Graph, storage: Storage) -> None:
        self._needs = predecessors(graph, storage)
        self._buffers = list(shared_buffers(graph, storage))
        count = len(graph.ops)
        behind, before = _closures(self._needs)
        # For every buffer the operators behind one that writes it, and those before one that uses it.
        self._born = [_matching(behind, buffer.writers) for buffer in self._buffers]
        self._needed = [_matching(before, buffer.users) for buffer in self._buffers]
        self._touched = [[k for k, b in enumerate(self._buffers) if b.users >> op & 1] for op in range(count)]

    def run(self) -> tuple[int, ...]:
        """Return the indices of the operators in their new order."""
        beam = [self._start()]
        for _ in self._needs:
            states = [after for state in beam for after in self._successors(state)]
            best: dict[OpSet, _State] = {}
            for state in sorted(states, key=lambda state: state.cost):
                best.setdefault(state.done, state)
            beam = list(best.values())[:WIDTH]
        return beam[0].ran

    def _start(self) -> _State:
        bytes_ = [0] * len(self._needs)
        given = 0
        for buffer, born, needed in zip(self._buffers, self._born, self._needed, strict=True):
            given += 0 if buffer.writers else buffer.bytes
            for op in members(needed & born if buffer.writers else needed):
                bytes_[op] += buffer.bytes
        return _State((), 0, given, tuple(bytes_))

    def _successors(self, state: _State) -> Iterator[_State]:
        ready = [
            op for op, needs in enumerate(self._needs) if not state.done >> op & 1 and not needs & ~state.done
        ]
        # What allocates nothing can only help: no other choice need be tried.
        free = next(
            (op for op in ready if not any(self._begins(k, op, state.done) for k in self._touched[op])), None
        )
        for op in ready if free is None else [free]:
            yield self._after(state, op)

    def _begins(self, buffer: int, op: int, done: OpSet) -> bool:
        writers = self._buffers[buffer].writers
        return bool(writers >> op & 1 and not writers & done)

    def _after(self, state: _State, op: int) -> _State:
        done, alive, bytes_ = state.done | 1 << op, state.alive, list(state.bytes)
        touched = [(k, self._buffers[k]) for k in self._touched[op]]
        for k, buffer in touched:
            if self._begins(k, op, state.done):
                alive += buffer.bytes
                for other in members(self._needed[k] & ~self._born[k] & ~done):
                    bytes_[other] += buffer.bytes
        bytes_[op] = alive
        alive -= sum(buffer.bytes for _, buffer in touched if not buffer.users & ~done)
        return _State((*state.ran, op), done, alive, tuple(bytes_))


def predecessors(graph: Graph, storage: Storage) -> list[OpSet]:
    """Return for every operator those that must run before it."""
    needs = [0] * len(graph.ops)
    views, latent_ops = storage.views, graph.latent_ops
    for index, op in enumerate(graph.ops):
        shared = {views[y].buffer for y in op.outputs}
        for other_index, other in enumerate(graph.ops[:index]):
            makes_input = not set(op.inputs).isdisjoint(other.outputs)
            # What an update changes is read before, or behind, but never on the other side of it.
            updates = "update" in (op.phase, other.phase) and not set(op.constants).isdisjoint(
                other.constants
            )
            # The host may run inference alone, and reads outputs when it has ended.
            loss = op.phase == "loss" and other.phase in ("forward", "loss")
            # A step that starts from latents leaves out what makes them, and nothing else.
            cut = other_index < latent_ops <= index
            # What is stored over something comes behind those that read it.
            stored_over = not shared.isdisjoint(views[x].buffer for x in other.inputs)
            if makes_input or updates or loss or cut or stored_over:
                needs[index] |= 1 << other_index
    return needs


def shared_buffers(graph: Graph, storage: Storage) -> Iterator[Shared]:
    """Yield the buffers of `storage`, which was chosen for the order of `graph`."""
    given = {*graph.inputs, *graph.labels, *graph.masks}
    forward = _op_set(index for index, op in enumerate(graph.ops) if op.phase == "forward")
    for buffer in storage.buffers:
        names = {name for name, view in storage.views.items() if view.buffer == buffer.name}
        writers = readers = 0
        for index, op in enumerate(graph.ops):
            writers |= (not names.isdisjoint((*op.outputs, *op.scratch))) << index
            readers |= (not names.isdisjoint(op.inputs)) << index
        late = 0 if names.isdisjoint(graph.outputs) else forward
        yield Shared(buffer.name, buffer.bytes, 0 if names & given else writers, writers | readers | late)


def _closures(needs: list[OpSet]) -> tuple[list[OpSet], list[OpSet]]:
    """Return for every operator itself and all that must come before it, and itself and all behind it."""
    first: list[OpSet] = []
    for index, direct in enumerate(needs):
        first.append(1 << index | _union(first[other] for other in members(direct)))
    last = [
        _op_set(index for index, others in enumerate(first) if others >> op & 1) for op in range(len(needs))
    ]
    return first, last


def _matching(sets: list[OpSet], members: OpSet) -> OpSet:
    """Return the operators whose set has some of `members`."""
    return _op_set(index for index, others in enumerate(sets) if others & members)


def _union(sets: Iterable[OpSet]) -> OpSet:
    result = 0
    for each in sets:
        result |= each
    return result


def _op_set(members: Iterable[int]) -> OpSet:
    return _union(1 << member for member in members)


def members(ops: OpSet) -> Iterator[int]:
    """Yield the indices in `ops`, ascending."""
    while ops:
        lowest = ops & -ops
        yield lowest.bit_length() - 1
        ops ^= lowest
