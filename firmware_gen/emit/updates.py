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
        yield "/* After the last sample of an update: the mean gradient, clipped, to the weights. */\n"
        yield "FT_STEP apply(const ft_hyper_t *hyper) {\n"
        mean = "1.0f"
        if self._memory.keeps_gradients:
            yield "    if (++accumulated < (int32_t)hyper->accumulate)\n        return;\n"
            mean = "1.0f / (float)accumulated"
        yield "    float sum = 0.0f;\n"
        counts = {name: self._memory.graph.constants[name].value.size for name in self._memory.graph.trained}
        gradients = {name: self._gradient(name) for name in counts}
        for name, count in counts.items():
            pointer, dtype = gradients[name]
            yield f"    sum = ft_square_sum_{dtype}({pointer}, {count}, sum);\n"
        yield f"    const float factor = ft_clip_factor(sum, {mean}, hyper->clip_norm);\n"
        if CORRECTIONS in self._memory.graph.state:
            yield f"    ft_adam_advance(hyper, {CORRECTIONS});\n"
        for name, count in counts.items():
            declaration, sink = self._update(name)
            pointer, dtype = gradients[name]
            call = f"ft_apply_{dtype}({sink}, {pointer}, {count}, factor);"
            yield f"    {{\n        {declaration}        {call}\n    }}\n" if declaration else f"    {call}\n"
        yield "    accumulated = 0;\n}\n\n" if self._memory.keeps_gradients else "}\n\n"

    def advance(self) -> Iterator[str]:
        """Yield the function that counts an update where each layer makes its own part of it."""
        yield "/* Another update, which every layer's own part makes. */\n"
        yield "FT_STEP advance(const ft_hyper_t *hyper) {\n"
        yield f"    ft_adam_advance(hyper, {CORRECTIONS});\n}}\n\n"

    def _update(self, constant: str) -> tuple[str, str]:
        """Return the declaration that the ft_sink_t which applies gradients needs, if any, and that."""
        optimizer, w = self._memory.graph.optimizer, self._weights(constant)
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

    def _weights(self, constant: str) -> str:
        """Return the ft_weights_t of a constant that learns."""
        dtype, array = self._memory.graph.learned(constant).dtype, self._memory.weight(constant)
        if dtype == "f32":
            return f"(ft_weights_t){{.f32 = {array}}}"
        drawn = f"1, ft_next_key({GENERATOR})" if GENERATOR in self._memory.graph.state else "0, 0"
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
