"""Networks of integer and float layers: they run, and their float layers learn."""

from pathlib import Path

import numpy as np
import onnx
from fleet import Fleet, lanes_here
from onnx import helper
from qdq_models import Array, Scale, border, float_model, integer_weight

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan

SIZE = 24
HYPER = {"lr": 0.05}


def weights(random: np.random.Generator, *dims: int) -> Array:
    return (random.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)


def mixed_network(folder: Path) -> Graph:
    """Return an int8 layer whose output a float layer reads, and a second one beside it (a concatenation)."""
    random = np.random.default_rng(1)
    arrays: dict[str, Array] = {
        "up.weight": weights(random, 32, 16, 1, 1),
        "head.weight": weights(random, 1, 48, 3, 3),
        "head.bias": np.zeros(1, np.float32),
    }
    nodes = [
        *border("x", "a", Scale(0.02, 3), arrays),
        integer_weight("low.weight", weights(random, 16, 8, 1, 1), 0, arrays),
        helper.make_node("Conv", ["a", "low.weight.dq"], ["b"]),
        *border("b", "skip", Scale(0.02, -89), arrays),
        helper.make_node("Conv", ["skip", "up.weight"], ["up"]),
        helper.make_node("Concat", ["skip", "up"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "head.weight", "head.bias"], ["y"], pads=[1, 1, 1, 1]),
    ]
    model = float_model(nodes, {"x": (1, 8, SIZE, SIZE)}, {"y": (1, 1, SIZE, SIZE)}, arrays)
    path = folder / "mixed.onnx"
    onnx.save(model, path)
    return integer_layers(simplify(import_onnx(path)))


def learning(graph: Graph, *patterns: str) -> Plan:
    """Return the plan that trains these layers."""
    trained = training_graph(graph, (LossSpec("y", "mse"),), UpdatePlan(patterns))
    return make_plan(lighten(trained), load_board("native"))


def trained_weights(plan: Plan, folder: Path, *, firmware: bool) -> list[Array]:
    """Return the loss and the weights after a step, compiled as in firmware or for the sanitizers."""
    random = np.random.default_rng(2)
    fleet = Fleet([plan])
    fleet.reset(0)
    fleet.write(0, "x", random.standard_normal((SIZE, SIZE, 8)))
    fleet.write(0, "y.label", random.standard_normal((SIZE, SIZE, 1)))
    fleet.write(0, "y.mask", np.ones((SIZE, SIZE, 1)))
    asked = [fleet.step(0, **HYPER), *(fleet.read(0, name) for name in plan.graph.trained)]
    program = fleet.build(folder, lanes_here()[-1], specialise=firmware, sanitize=not firmware)
    values = fleet.run(program)
    return [values[number] for number in asked]


def test_the_optimizer_drops_no_step_that_changes_the_size_of_values(tmp_path: Path) -> None:
    # GCC 12 -O2 computed the address of the dequantized values from that of the integers, lost track of the
    # object, and removed the call: see AT in firmware_gen/emit/memory.py.
    plan = learning(mixed_network(tmp_path), "up", "head")
    assert "dequantize" in [step.op.kind for step in plan.steps]
    plain = trained_weights(plan, tmp_path / "plain", firmware=False)
    optimized = trained_weights(plan, tmp_path / "firmware", firmware=True)
    for one, other in zip(plain, optimized, strict=True):
        assert np.array_equal(one, other)


def test_an_integer_layer_that_is_to_learn_becomes_a_float_layer_between_integers(tmp_path: Path) -> None:
    graph = mixed_network(tmp_path)
    plan = learning(graph, "low")
    kinds = {op.name: op.kind for op in plan.graph.ops if op.phase == "forward"}
    assert kinds["low"] == "conv2d"
    weight, integers = (g.constants[plan.graph.trained[0]] for g in (plan.graph, graph))
    assert weight.value.dtype == np.float32
    assert np.allclose(weight.value, integers.value * np.array(integers.scales))
    assert len(learning(graph, "*").graph.trained) == 5
