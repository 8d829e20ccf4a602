"""What the firmware calls: reset, infer, a training step, in whole or part by part."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

from firmware_gen.band_table import BandTable
from firmware_gen.c_text import c_float
from firmware_gen.emit.l3 import uses
from firmware_gen.emit.layers import Layers
from firmware_gen.emit.memory import Memory
from firmware_gen.plan import GUARD_BYTES
from firmware_gen.schedule import Chain
from firmware_gen.step_parts import Part, part_phase, step_parts
from firmware_gen.update import CORRECTIONS

# The fabric controller's side: what is to be run goes to the cluster's master core as one task.
_SENT_INFERENCE = """\
typedef struct {
    uint32_t first, end;
} inference_t;

static void run_inference(void *argument) {
    const inference_t *const wanted = argument;
    infer_on_cluster(wanted->first, wanted->end);
}

static void infer(uint32_t first, uint32_t end) {
    inference_t wanted = {first, end};
    ft_team_run(run_inference, &wanted);
}

"""
_SENT_STEP = """\
typedef struct {
    uint32_t first, end;
    const ft_hyper_t *hyper;
    float *losses;
} training_t;

static void run_training(void *argument) {
    const training_t *const wanted = argument;
    step_on_cluster(wanted->first, wanted->end, wanted->hyper, wanted->losses);
}

static void step(uint32_t first, uint32_t end, const ft_hyper_t *hyper, float *losses) {
    training_t wanted = {first, end, hyper, losses};
    ft_team_run(run_training, &wanted);
}

"""


class EntryPoints:
    """The functions of one model.c that its descriptor names."""

    def __init__(self, memory: Memory, layers: Layers, marks: bool) -> None:
        """Call `layers` on what lies in `memory`; with `marks` tell the port which phase runs."""
        self._memory, self._layers, self._updates = memory, layers, layers.updates
        self._marks = marks

    def text(self) -> Iterator[str]:
        """Yield them, and what only they call."""
        yield "static void reset(void) {\n"
        if self._memory.plan.l3 is not None:
            yield "    ft_l3_open(&l3);\n"
        yield f"    for (int k = 0; k < {GUARD_BYTES // 4}; k++)\n"
        yield "        arena.low[k] = arena.high[k] = 0xA5A5A5A5u;\n"
        yield f"    memset(arena.data, 0, {self._memory.plan.arena_bytes});\n"
        for name in self._memory.graph.trained if self._memory.plan.keeps_initial else ():
            initial = f"initial_{self._memory.names(name)}"
            yield f"    memcpy({self._memory.weight(name)}, {initial}, sizeof {initial});\n"
        for name in self._memory.graph.state:
            yield f"    memset({self._memory.state(name)}, 0, sizeof {self._memory.state(name)});\n"
        if self._memory.keeps_gradients:
            yield "    accumulated = 0;\n"
        for index, moving in enumerate(self._memory.graph.ranges.values()):
            yield f"    ranges[{index}].low = {c_float(moving.low)};\n"
            yield f"    ranges[{index}].high = {c_float(moving.high)};\n"
        yield "}\n\nstatic int intact(void) {\n"
        yield f"    for (int k = 0; k < {GUARD_BYTES // 4}; k++)\n"
        yield "        if (arena.low[k] != 0xA5A5A5A5u || arena.high[k] != 0xA5A5A5A5u)\n"
        yield "            return 0;\n    return 1;\n}\n\n"
        yield from self._inference()
        if self._memory.graph.trained:
            yield from self._training()

    def _inference(self) -> Iterator[str]:
        forward = [index for index, step in enumerate(self._memory.plan.steps) if step.op.phase == "forward"]
        yield "static void forward(uint32_t index) {\n"
        yield from self._switch([Part(self._memory.plan.steps[index].op.name, index) for index in forward])
        yield "}\n\n"
        if self._memory.graph.ranges:
            yield from self._ranges()
        on_cluster = self._memory.plan.board.cluster is not None
        name = "infer_on_cluster" if on_cluster else "infer"
        external = "".join(uses(self._memory.plan, "l3_of_inference", forward))
        yield external
        yield f"static void {name}(uint32_t first, uint32_t end) {{\n"
        yield from self._begin_ranges()
        yield from self._mark("FT_MARK_FORWARD")
        if external:
            yield from _begin_l3("l3_of_inference")
            yield f"    for (uint32_t k = first; k < end && k < {len(forward)}; k++) {{\n"
            yield "        ft_l3_bring(k);\n        forward(k);\n    }\n"
        else:
            yield f"    for (uint32_t k = first; k < end && k < {len(forward)}; k++)\n"
            yield "        forward(k);\n"
        yield from self._mark("FT_MARK_REST")
        yield "}\n\n"
        if on_cluster:
            yield _SENT_INFERENCE

    def _ranges(self) -> Iterator[str]:
        count = len(self._memory.graph.ranges)
        for name, function in (("begin_ranges", "ft_range_begin"), ("move_ranges", "ft_range_move")):
            yield f"FT_STEP {name}(void) {{\n    for (int k = 0; k < {count}; k++)\n"
            yield f"        {function}(&ranges[k], range_rules[k]);\n}}\n\n"

    def _begin_ranges(self, *starts: int) -> Iterator[str]:
        """Yield the call before the first step, 0, and the other `starts`."""
        if self._memory.graph.ranges:
            begins = " || ".join(f"first == {start}" for start in sorted({0, *starts}))
            yield f"    if ({begins})\n        begin_ranges();\n"

    def _training(self) -> Iterator[str]:
        if self._memory.keeps_gradients:
            yield from self._updates.clear()
        if self._updates.late:
            yield from self._updates.apply()
        elif CORRECTIONS in self._memory.graph.state:
            yield from self._updates.advance()
        yield "static void part(uint32_t index, const ft_hyper_t *hyper, float *losses) {\n"
        yield "    (void)hyper, (void)losses;\n"
        parts = step_parts(self._memory.plan)
        yield from self._switch(parts, self._memory.plan.left_out)
        yield "}\n\n"
        if self._marks:
            yield from self._mark_of(parts)
        on_cluster = self._memory.plan.board.cluster is not None
        head = "(uint32_t first, uint32_t end, const ft_hyper_t *hyper, float *losses)"
        run = [None if part.step in self._memory.plan.left_out else part.step for part in parts]
        external = "".join(uses(self._memory.plan, "l3_of_step", run))
        yield external
        yield f"static void {'step_on_cluster' if on_cluster else 'step'}{head} {{\n"
        yield from self._begin_ranges(self._memory.plan.latent_step)
        if external:
            yield from _begin_l3("l3_of_step")
        yield f"    for (uint32_t k = first; k < end && k < {len(parts)}; k++) {{\n"
        yield from self._mark("mark_of(k)", indent=8)
        if external:
            yield "        ft_l3_bring(k);\n"
        yield "        part(k, hyper, losses);\n    }\n"
        yield from self._mark("FT_MARK_REST")
        yield "}\n\n"
        if on_cluster:
            yield _SENT_STEP

    def _mark(self, mark: str, indent: int = 4) -> Iterator[str]:
        if self._marks:
            yield f"{' ' * indent}ft_port_mark({mark});\n"

    def _mark_of(self, parts: Sequence[Part]) -> Iterator[str]:
        """Yield a function: the phase of a part by its index."""
        phases = [part_phase(self._memory.plan, part) for part in parts]
        yield "static ft_mark_t mark_of(uint32_t index) {\n    switch (index) {\n"
        for phase, run in itertools.groupby(range(len(phases)), phases.__getitem__):
            numbers = list(run)
            yield f"    case {numbers[0]} ... {numbers[-1]}:\n        return FT_MARK_{phase.upper()};\n"
        yield "    default:\n        return FT_MARK_REST;\n    }\n}\n\n"

    def _switch(self, parts: Sequence[Part], left_out: Collection[int] = ()) -> Iterator[str]:
        """Yield the calls by `index`, without `left_out` and those whose result the plan has put in place."""
        yield "    switch (index) {\n"
        runs = itertools.groupby(enumerate(parts), lambda numbered: self._run(*numbered))
        for _, run in runs:
            numbers, members = zip(*run, strict=True)
            if members[0].step in left_out:
                continue
            call = self._call(members[0])
            chain = self._chain(members[0])
            if chain is not None:
                yield from self._bands_case(numbers[0], members, self._memory.band_table(chain))
            elif call:
                yield f"    case {numbers[0]}:\n        {call};\n        break;\n"
        yield "    }\n"

    def _chain(self, part: Part) -> Chain | None:
        return None if part.step is None else self._memory.plan.steps[part.step].chain

    def _run(self, index: int, part: Part) -> int:
        """Return what the parts of a chain have in common, and nothing else has."""
        chain = self._chain(part)
        return index if chain is None else -1 - self._memory.band_table(chain).index

    def _bands_case(self, first: int, parts: Sequence[Part], table: BandTable) -> Iterator[str]:
        """Yield the case of a whole chain: of each band, all operators of the phase."""
        count = len(parts) // table.chain.bands
        indices = [part.step for part in parts[:count] if part.step is not None]
        functions = ",\n            ".join(map(self._layers.name, indices))
        yield f"    case {first} ... {first + len(parts) - 1}: {{\n"
        yield f"        static void (*const layers[])(const {table.c_type} *band) = {{\n"
        yield f"            {functions}}};\n"
        yield f"        layers[(index - {first}) % {count}]({table.name}[(index - {first}) / {count} + 1]);\n"
        yield "        break;\n    }\n"

    def _call(self, part: Part) -> str:
        """Return the call that runs `part`, "" when the plan has put its result in place."""
        if part.step is None:
            return f"{part.name}({'hyper' if part.name in ('advance', 'apply') else ''})"
        return self._layers.call(part.step)


def _begin_l3(table: str) -> Iterator[str]:
    yield f"    ft_l3_begin({table}, sizeof {table} / sizeof {table}[0], first, end);\n"
