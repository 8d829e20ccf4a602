"""Kernels for an instruction set, beside the portable ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from boards import Isa
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter, Operator

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

Attrs = TypeVar("Attrs", contravariant=True)


class Variant(Protocol[Attrs]):
    """A kernel for the operators of a family that suit it, on boards that have its instructions: a module."""

    def takes(self, op: Op, attrs: Attrs, graph: Graph) -> bool:
        """Tell whether the kernel can run the operator."""

    def scratch_bytes(self, op: Op, attrs: Attrs, graph: Graph) -> int:
        """Return the bytes of the arena that the kernel works in."""

    def emit(self, step: Step, attrs: Attrs, c: Emitter) -> str:
        """Return the C statements that run `step`."""


class VariedOperator(Operator):
    """An operator with a portable kernel and variants of it: the first that takes a layer runs it."""

    variants: ClassVar[Mapping[Isa, tuple[Variant[Any], ...]]] = {}

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        variant = self._variant(op, graph, isa)
        return variant.scratch_bytes(op, op.attrs, graph) if variant else 0

    def emit(self, step: Step, c: Emitter) -> str:
        variant = self._variant(step.op, step.graph, c.isa)
        return variant.emit(step, step.op.attrs, c) if variant else self.emit_portable(step, c)

    def emit_portable(self, step: Step, c: Emitter) -> str:
        """Return the C statements that run `step` on any board."""
        raise AssertionError(f"{self.kind} has no portable C")

    def _variant(self, op: Op, graph: Graph, isa: Isa) -> Variant[Any] | None:
        return next((v for v in self.variants.get(isa, ()) if v.takes(op, op.attrs, graph)), None)
