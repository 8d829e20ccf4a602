"""What a search chooses from: how many channels each group keeps, and which layers are int8 or float."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from firmware_gen.graph import Graph
from quantize.prune_methods import Widths
from quantize.reconstruct import Moments

Type = Literal["int8", "float"]
TYPES: tuple[Type, ...] = ("int8", "float")
"""What a layer can be. Weights of 4 bits are not among them: there is no kernel that computes with them."""


@dataclass(frozen=True)
class Candidate:
    """A choice, in the order of its space: channels by group, and of every layer whether it is float."""

    channels: tuple[int, ...]
    floats: tuple[bool, ...]


class Space:
    """All choices for a graph.

    `groups` are the names of those of which channels can go, `levels` how many of each may stay, the largest
    number first; `layers` are those with weights, one of each set that shares them.
    """

    def __init__(
        self,
        graph: Graph,
        isa: Isa,
        narrowest: float,
        types: Sequence[Type],
        kept: Collection[str] = (),
        moments: Moments = MappingProxyType({}),
    ) -> None:
        """Take what may be chosen.

        Args:
            graph: simplified, in float.
            isa: of the board, whose kernels like some numbers of channels.
            narrowest: the least share of a group's channels that stays.
            types: what layers may be.
            kept: names of operators that are float whatever is chosen.
            moments: by which layers make up for channels that go; without them they just lose weights.
        """
        self.graph, self.types = graph, tuple(types)
        self._widths = Widths(graph, isa, moments)
        levels = {
            group: (group.channels, *(count for count in counts if count >= narrowest * group.channels))
            for group in self._widths.groups
            for counts in [self._widths.levels(group, 1 - narrowest)]  # rounded, some of them down
        }
        self._groups = tuple(group for group, counts in levels.items() if len(counts) > 1)
        self.groups = tuple(group.name for group in self._groups)
        self.levels = tuple(levels[group] for group in self._groups)
        self._kept = frozenset(kept)
        self._sharing: dict[str, tuple[str, ...]] = {}
        for op in graph.ops:
            if op.constants and not any(op.name in names for names in self._sharing.values()):
                alike = tuple(x.name for x in graph.ops if {*x.constants} & {*op.constants})
                if self._kept.isdisjoint(alike):
                    self._sharing[op.name] = alike
        self.layers = tuple(self._sharing)

    @property
    def size(self) -> int:
        """How many choices there are."""
        return math.prod(map(len, self.genes().values()))

    def whole(self, kind: Type) -> Candidate:
        """Return the network as it is given, all of one type."""
        return Candidate(
            tuple(counts[0] for counts in self.levels), tuple(kind == "float" for _ in self.layers)
        )

    @functools.cached_property
    def _rankings(self) -> list[list[int]]:
        return [self._widths.ranking(group, {}) for group in self._groups]

    def graph_of(self, candidate: Candidate) -> Graph:
        """Return the float graph with the channels that stay: of each group those that are missed most."""
        kept = zip(self._groups, self._rankings, candidate.channels, strict=True)
        return self._widths.pruned({group: ranking[:count] for group, ranking, count in kept})

    def cut(self, candidate: Candidate) -> Graph:
        """Return a graph of its shapes, quickly; it takes the same on a board."""
        kept = zip(self._groups, candidate.channels, strict=True)
        return self._widths.cut({group: range(count) for group, count in kept})

    def float_layers(self, candidate: Candidate) -> frozenset[str]:
        """Return the names of the operators that are float: those chosen, and those that are in any case."""
        chosen = (name for name, is_float in zip(self.layers, candidate.floats, strict=True) if is_float)
        return self._kept.union(*(self._sharing[name] for name in chosen))

    def random(self, rng: np.random.Generator) -> Candidate:
        """Return a choice of which the share of narrowed groups and that of float layers are drawn first.

        If every gene were drawn alike, all choices would be half as wide and half in float. Most have few
        narrowed groups: where many are, an epoch or two of fine-tuning do not bring the losses near.
        """
        narrowed, precise = rng.random() ** 2, rng.random()
        channels = [
            int(rng.choice(counts[1:])) if rng.random() < narrowed else counts[0] for counts in self.levels
        ]
        floats = [bool(rng.random() < precise) for _ in self.layers]
        if len(self.types) == 1:
            floats = [self.types[0] == "float"] * len(floats)
        return Candidate(tuple(channels), tuple(floats))

    def genes(self) -> dict[str, tuple[int, ...] | tuple[Type, ...]]:
        """Return what can be chosen: by name the choices; what has but one is left out."""
        found: dict[str, tuple[int, ...] | tuple[Type, ...]] = {
            f"channels of {name}": counts for name, counts in zip(self.groups, self.levels, strict=True)
        }
        if len(self.types) > 1:
            found |= {f"type of {name}": self.types for name in self.layers}
        return found

    def values(self, candidate: Candidate) -> dict[str, int | str]:
        """Return the choice for each of the genes."""
        found: dict[str, int | str] = dict(
            zip((f"channels of {name}" for name in self.groups), candidate.channels, strict=True)
        )
        types = {name: TYPES[value] for name, value in zip(self.layers, candidate.floats, strict=True)}
        return found | {f"type of {name}": kind for name, kind in types.items() if len(self.types) > 1}

    def candidate(self, values: Mapping[str, int | str]) -> Candidate:
        """Return the choice that has these `values`."""
        only = self.types[0]
        return Candidate(
            tuple(int(values[f"channels of {name}"]) for name in self.groups),
            tuple(values.get(f"type of {name}", only) == "float" for name in self.layers),
        )

    @property
    def reference(self) -> Candidate:
        """The network as given, in float if layers may be."""
        return self.whole("float" if "float" in self.types else "int8")

    def features(self, candidate: Candidate) -> NDArray[np.float64]:
        """Return numbers that are 0 for the reference: the share of each group that is gone, int8 layers."""
        gone = [1 - count / counts[0] for count, counts in zip(candidate.channels, self.levels, strict=True)]
        differs = [a != b for a, b in zip(candidate.floats, self.reference.floats, strict=True)]
        return np.array([*gone, *differs], np.float64)
