"""What becomes of a gradient: an update at once, or one when all gradients of the step are there."""

from __future__ import annotations

from collections.abc import Iterator

from firmware_gen.emit.memory import Memory
from firmware_gen.graph import DType, gradient_name
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.learning_i8 import learning_weight
from firmware_gen.plan import updates_late
from firmware_gen.schedule import Step
from firmware_gen.update import CORRECTIONS, GENERATOR

_NEXT_KEY = f"ft_next_key({GENERATOR})"


class Updates:
    """The optimizer's part of one model.c."""

    def __init__(self, memory: Memory, layers: Emitter) -> None:
        """Print updates of what lies in `memory`; `layers` prints constants."""
        self._memory, self._layers = memory, layers
        self.late = updates_late(memory.graph)

    def sink(self, constant: str, step: Step) -> tuple[str, str]:
        """See `Emitter.sink`."""
        if not self.late:
            return self._update(constant)
        if self._memory.keeps_gradients:
            return "", f"(ft_sink_t){{.g = {self._memory.state(gradient_name(constant))}}}"
        (total,) = step.op.outputs
        g = self._memory.pointer(total)
        first = "" if step.chain is None else "if (y0 == 0)\n    "
        zeros = f"{first}memset({g}, 0, {self._memory.graph.tensors[total].bytes});\n"
        return zeros, f"(ft_sink_t){{.g = {g}}}"

    def clear(self) -> Iterator[str]:
        """Yield the function that a step begins with where gradients wait for further samples."""
        yield "/* No gradient, before the first sample of an update. */\n"
        yield "FT_STEP clear(void) {\n    if (accumulated != 0)\n        return;\n"
        for name in self._memory.graph.trained:
            pointer = self._memory.state(f"gradient.{name}")
            yield f"    memset({pointer}, 0, sizeof {pointer});\n"
        yield "}\n\n"

    def apply(self) -> Iterator[str]:
        """Yield the function that ends a step in which gradients waited for each other."""
        cluster = self._memory.plan.board.cluster
        if cluster is not None:
            yield from self._core_apply(cluster.cores)
        yield "/* After the last sample of an update: the mean gradient, clipped, to the weights. */\n"
        yield "FT_STEP apply(const ft_hyper_t *hyper) {\n"
        mean = "1.0f"
        if self._memory.keeps_gradients:
            yield "    if (++accumulated < (int32_t)hyper->accumulate)\n        return;\n"
            mean = "1.0f / (float)accumulated"
        yield "    float sum = 0.0f;\n"
        for name in self._memory.graph.trained:
            pointer, dtype = self._gradient(name)
            yield f"    sum = ft_square_sum_{dtype}({pointer}, {self._count(name)}, sum);\n"
        yield f"    const float factor = ft_clip_factor(sum, {mean}, hyper->clip_norm);\n"
        if CORRECTIONS in self._memory.graph.state:
            yield f"    ft_adam_advance(hyper, {CORRECTIONS});\n"
        if cluster is None:
            for name in self._memory.graph.trained:
                yield from self._applied(name, _NEXT_KEY, "factor", "FT_ALONE")
        else:
            yield from self._fork(cluster.cores)
        yield "    accumulated = 0;\n}\n\n" if self._memory.keeps_gradients else "}\n\n"

    def _core_apply(self, cores: int) -> Iterator[str]:
        """Yield the function with which each of the cores moves weights of its own."""
        yield "static void core_apply(void *argument) {\n"
        yield "    const ft_update_t *const update = argument;\n"
        yield "    const ft_hyper_t *const hyper = update->hyper;\n"
        yield f"    const ft_cores_t cores = {{(int)pi_core_id(), {cores}, ft_team_meet}};\n"
        for name in self._memory.graph.trained:
            key = f"update->keys[{self._drawing.index(name)}]" if name in self._drawing else ""
            yield from self._applied(name, key, "update->factor", "cores")
        yield "}\n\n"

    def _fork(self, cores: int) -> Iterator[str]:
        """Yield the statements with which the master has the cores run that."""
        keys = "NULL"
        if self._drawing:  # in their order: as a core that is alone draws them
            keys = "keys"
            yield f"    uint32_t keys[{len(self._drawing)}];\n"
            yield f"    for (int k = 0; k < {len(self._drawing)}; k++)\n        keys[k] = {_NEXT_KEY};\n"
        yield f"    ft_update_t update = {{hyper, factor, {keys}}};\n"
        yield f"    pi_cl_team_fork({cores}, core_apply, &update);\n"

    def _applied(self, name: str, key: str, factor: str, cores: str) -> Iterator[str]:
        """Yield the statements that move a constant by its gradient."""
        declaration, sink = self._update(name, key)
        pointer, dtype = self._gradient(name)
        call = f"ft_apply_{dtype}({sink}, {pointer}, {self._count(name)}, {factor}, {cores});"
        yield f"    {{\n        {declaration}        {call}\n    }}\n" if declaration else f"    {call}\n"

    @property
    def _drawing(self) -> list[str]:
        """The constants whose updates draw random numbers."""
        if GENERATOR not in self._memory.graph.state:
            return []
        return [
            name for name in self._memory.graph.trained if self._memory.graph.learned(name).dtype != "f32"
        ]

    def _count(self, constant: str) -> int:
        return int(self._memory.graph.constants[constant].value.size)

    def advance(self) -> Iterator[str]:
        """Yield the function that counts an update where each layer makes its own part of it."""
        yield "/* Another update, which every layer's own part makes. */\n"
        yield "FT_STEP advance(const ft_hyper_t *hyper) {\n"
        yield f"    ft_adam_advance(hyper, {CORRECTIONS});\n}}\n\n"

    def _update(self, constant: str, key: str = _NEXT_KEY) -> tuple[str, str]:
        """Return the declaration that the ft_sink_t which applies gradients needs, if any, and that.

        key: the C expression of what is drawn with.
        """
        optimizer, w = self._memory.graph.optimizer, self._weights(constant, key)
        if optimizer == "sgd":
            velocity = self._reals(f"velocity.{constant}")
            return "", f"(ft_sink_t){{.sgd = ft_sgd(hyper, {w}, {velocity})}}"
        first, second = self._reals(f"moment1.{constant}"), self._memory.state(f"moment2.{constant}")
        adam = f"ft_adam(hyper, FT_{optimizer.upper()}, {w},\n        {first}, {second}, {CORRECTIONS})"
        return f"const ft_adam_t adam = {adam};\n", "(ft_sink_t){.adam = &adam}"

    def _gradient(self, constant: str) -> tuple[str, DType]:
        """Return C pointer and type of a gradient, which waits for all others or for further samples."""
        name = gradient_name(constant)
        if self._memory.keeps_gradients:
            return self._memory.state(name), "f32"
        return self._memory.pointer(name), self._memory.graph.tensors[name].dtype

    def _weights(self, constant: str, key: str) -> str:
        """Return the ft_weights_t of a constant that learns."""
        dtype, array = self._memory.graph.learned(constant).dtype, self._memory.weight(constant)
        if dtype == "f32":
            return f"(ft_weights_t){{.f32 = {array}}}"
        drawn = f"1, {key}" if constant in self._drawing else "0, 0"
        if dtype == "bf16":
            return f"(ft_weights_t){{.bf16 = {{{array}, {drawn}}}}}"
        known = learning_weight(constant, self._memory.graph, self._layers)
        return f"(ft_weights_t){{.steps = {{{known}, {drawn}}}}}"

    def _reals(self, name: str) -> str:
        """Return the ft_reals_t of a state, without any array when the plan keeps none."""
        state = self._memory.graph.state.get(name)
        if state is None:
            return "(ft_reals_t){NULL, NULL}"
        array = self._memory.state(name)
        return f"(ft_reals_t){{{f'NULL, {array}' if state.dtype == 'bf16' else f'{array}, NULL'}}}"
