"""Which layers run in bands: a search for the chains that let a network fit.

Greedy: at the step where memory peaks, every chain of layers around it is tried in bands of one row, and the
one that leaves the least is taken, until the network fits or nothing helps. Then chains lose what they need
not have: they are left out, shortened, and their bands become higher, which saves copies and calls.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from firmware_gen.arena import alive_bytes, extent, peak_bytes, place
from firmware_gen.bands import Bands
from firmware_gen.graph import Graph
from firmware_gen.schedule import Chain, Step
from firmware_gen.storage import Storage, assign, choose_storage, copied_bytes, parts_of_layers

LEAST_LAYERS = 2  # of a chain: one layer alone has nothing to roll


@dataclass(frozen=True)
class _Choice:
    chains: tuple[Chain, ...]
    steps: tuple[Step, ...]
    storage: Storage
    alive: tuple[int, ...]  # bytes at each operator of the graph

    @property
    def peak(self) -> int:
        return max(self.alive)

    @property
    def cost(self) -> tuple[list[int], int]:
        """The bytes at every operator, from the peak down: what lowers the peak first may stand elsewhere."""
        return sorted(self.alive, reverse=True), copied_bytes(self.storage, self.steps[0].graph)


def narrow(graph: Graph, room: int) -> tuple[tuple[Step, ...], Storage]:
    """Return a schedule in chains and its storage, whose arena needs `room` bytes, else the fewest."""
    return _Search(graph, room).run()


def peak_in_chains(graph: Graph, steps: Iterable[Step]) -> int:
    """Return the peak of `graph` in the chains of `steps`, which may lack some of its layers."""
    bands = Bands(graph)
    numbers = {op.outputs[0]: index for index, op in enumerate(graph.ops) if op.outputs}
    chains = []
    for chain in {id(step.chain): step.chain for step in steps if step.chain is not None}.values():
        start = numbers[chain.ops[0].outputs[0]]
        chains.append(bands.chain(start, start + len(chain.ops), chain.height))
    storage = choose_storage(bands.steps(chain for chain in chains if chain is not None))
    return peak_bytes(storage.buffers)


class _Search:
    def __init__(self, graph: Graph, room: int) -> None:
        self._bands = Bands(graph)
        self._graph = graph
        self._room = room

    def run(self) -> tuple[tuple[Step, ...], Storage]:
        best = self._choice(())
        while not self._fits(best):
            options = list(self._options(best))
            if not options:
                break
            found = self._choice(min(options, key=lambda option: option.cost).chains)
            if found.cost >= best.cost:
                break
            best = found
        best = self._lightened(best)
        return best.steps, best.storage

    def _fits(self, choice: _Choice) -> bool:
        buffers = choice.storage.buffers
        return choice.peak <= self._room and extent(buffers, place(buffers)) <= self._room

    def _choice(self, chains: Iterable[Chain], thorough: bool = True) -> _Choice:
        chains = tuple(chains)
        steps = self._bands.steps(chains)
        storage = choose_storage(steps) if thorough else assign(steps, parts_of_layers(self._graph))
        numbers = {id(op): index for index, op in enumerate(self._graph.ops)}
        found = [0] * len(self._graph.ops)
        for step, bytes_ in zip(steps, alive_bytes(storage.buffers, len(steps)), strict=True):
            at = numbers[id(step.op)]
            found[at] = max(found[at], bytes_)
        return _Choice(chains, steps, storage, tuple(found))

    def _options(self, now: _Choice) -> Iterator[_Choice]:
        """Yield what is left with each chain around the peak, which replaces those that it meets."""
        at = now.alive.index(now.peak)
        for start, end in itertools.product(range(at + 1), range(at + 1, len(self._graph.ops) + 1)):
            chain = self._bands.chain(start, end, 1) if end - start >= LEAST_LAYERS else None
            if chain is not None:
                apart = (other for other in now.chains if other.end <= start or end <= other.start)
                yield self._choice((*apart, chain), thorough=False)

    def _lightened(self, best: _Choice) -> _Choice:
        """Return a choice with less in chains that is as good."""

        def as_good(option: _Choice) -> bool:
            return self._fits(option) if fits else option.peak <= peak

        fits, peak = self._fits(best), best.peak
        chains = list(best.chains)
        for chain in best.chains:
            chains.remove(chain)
            without = self._choice(chains)
            if as_good(without):
                best = without
                continue
            lighter: Chain | None = chain
            while lighter is not None:
                chain = lighter
                options = (self._choice((*chains, shorter)) for shorter in self._lighter(chain))
                better = next((option for option in options if as_good(option)), None)
                if better is not None:
                    best = better
                lighter = better.chains[-1] if better else None
            chains.append(chain)
        return best

    def _lighter(self, chain: Chain) -> Iterator[Chain]:
        """Yield the chain without its first or its last layer, and with bands twice as high."""
        start, end, height = chain.start, chain.end, chain.height
        shorter = [(start + 1, end, height), (start, end - 1, height)] * (end - start > LEAST_LAYERS)
        for options in (*shorter, (start, end, 2 * height)):
            found = self._bands.chain(*options)
            if found is not None:
                yield found
