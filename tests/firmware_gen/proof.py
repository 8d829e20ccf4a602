"""Compares generated C with float64 autograd and ONNX Runtime, many networks at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from fleet import Fleet, lanes_here
from networks import Net
from references import Array

from firmware_gen.graph import Constant
from firmware_gen.plan import Plan
from firmware_gen.update import UpdatePlan
from firmware_gen.weights import to_source

TOLERANCE = 1e-4  # relative L2 norm of a tensor
ROUNDING = 1e-6  # of the largest tensor: what is nought in exact arithmetic need not be in single precision


@dataclass(frozen=True)
class Case:
    """A network and what of it learns."""

    net: Net
    patterns: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class _Answers:
    outputs: list[int]
    losses: int
    gradients: dict[str, int]


def prove(cases: Sequence[Case], folder: Path, specialise: bool = False) -> None:
    """Assert that the C of every case gives torch's outputs, losses and gradients.

    Besides: ONNX Runtime's outputs; the same bits with and without vectors; the same bits again after another
    sample, so that nothing depends on what the arena held; untouched guards; and clean under the sanitizers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plans = [
        case.net.plan(folder, UpdatePlan(case.patterns, keep_gradients=True), f"net{k}")
        for k, case in enumerate(cases)
    ]
    fleet = Fleet(plans)
    asked = [_ask(fleet, k, case.net, plan) for k, (case, plan) in enumerate(zip(cases, plans, strict=True))]
    results = [fleet.run(fleet.build(folder, lanes, specialise)) for lanes in lanes_here()]
    for other in results[1:]:
        for number, (a, b) in enumerate(zip(results[0], other, strict=True)):
            assert a.tobytes() == b.tobytes(), f"answer {number} differs between vector and scalar code"
    for case, plan, (first, again, intact) in zip(cases, plans, asked, strict=True):
        values = results[0]
        assert values[intact] == 1
        for a, b in zip(_numbers(first), _numbers(again), strict=True):
            assert values[a].tobytes() == values[b].tobytes(), "an earlier sample changes the result"
        _compare(case, plan, values, first)


def _ask(fleet: Fleet, model: int, net: Net, plan: Plan) -> tuple[_Answers, _Answers, int]:
    fleet.reset(model)
    first = _ask_once(fleet, model, net, plan, net.inputs)
    noise = {name: net.rng.standard_normal(value.shape) for name, value in net.inputs.items()}
    _ask_once(fleet, model, net, plan, noise)
    again = _ask_once(fleet, model, net, plan, net.inputs)
    return first, again, fleet.intact(model)


def _ask_once(fleet: Fleet, model: int, net: Net, plan: Plan, inputs: dict[str, Array]) -> _Answers:
    _write_sample(fleet, model, net, plan, inputs)
    fleet.infer(model)
    outputs = [fleet.read(model, name) for name in net.outputs]
    _write_sample(fleet, model, net, plan, inputs)
    losses = fleet.step(model)
    gradients = {name: fleet.read(model, f"gradient.{name}") for name in plan.graph.trained}
    return _Answers(outputs, losses, gradients)


def _write_sample(fleet: Fleet, model: int, net: Net, plan: Plan, inputs: dict[str, Array]) -> None:
    for name, value in inputs.items():
        if name in plan.graph.inputs:
            fleet.write(model, name, hwc(value))
    for name in net.labels:
        fleet.write(model, f"{name}.label", hwc(net.labels[name]))
        fleet.write(model, f"{name}.mask", hwc(net.masks[name]))


def _numbers(answers: _Answers) -> Iterable[int]:
    return (*answers.outputs, answers.losses, *answers.gradients.values())


def hwc(value: Array) -> Array:
    """Return a channels-first map or vector as the board has it."""
    return np.moveaxis(value[0], 0, -1) if value.ndim == 4 else value.reshape(1, 1, -1)


def _compare(case: Case, plan: Plan, values: list[Array], answers: _Answers) -> None:
    net = case.net
    runtime = _onnxruntime(net)
    for name, number in zip(net.outputs, answers.outputs, strict=True):
        truth = net.values[name].detach().numpy()
        assert error(runtime[name].reshape(truth.shape), truth) < TOLERANCE, "ONNX Runtime and torch disagree"
        assert error(values[number], hwc(truth)) < TOLERANCE, name
    truths = [value.item() for value in net.loss_values]
    np.testing.assert_allclose(values[answers.losses], truths, rtol=TOLERANCE, atol=1e-6)
    gradients = net.gradients()
    floor = ROUNDING * max((float(np.linalg.norm(truth)) for truth in gradients.values()), default=0.0)
    for name, number in answers.gradients.items():
        parameter, constant = net.parameters[name], plan.graph.constants[name]
        found = values[number].reshape(constant.value.shape)
        whole, learns = _in_whole(constant, found)
        in_file = parameter.to_file(whole)
        if constant.slab is None and constant.source_axes is not None:
            assert np.array_equal(to_source(constant, found).ravel(), in_file.ravel()), name
        truth = gradients[name] * parameter.to_file(learns)
        assert error(in_file, truth, floor) < TOLERANCE, f"gradient of {name}"


def _in_whole(constant: Constant, found: Array) -> tuple[Array, Array]:
    """Return a gradient among the zeros of the channels that are frozen, and 1 where it belongs."""
    if constant.slab is None:
        return found, np.ones_like(found)
    whole, learns = np.zeros((2, *constant.slab.whole.shape), np.float32)
    whole[constant.slab.index], learns[constant.slab.index] = found, 1
    return whole, learns


def error(found: Array, truth: Array, floor: float = 0.0) -> float:
    """Return the relative L2 error; differences up to `floor` count as none."""
    assert found.shape == truth.shape
    difference = float(np.linalg.norm(found - truth))
    if difference <= max(floor, 1e-7):
        return 0.0
    return difference / max(float(np.linalg.norm(truth)), 1e-30)


def _onnxruntime(net: Net) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        net.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {name: value if net.rank == 4 else value[:, :, 0] for name, value in net.inputs.items()}
    return dict(zip(net.outputs, session.run(net.outputs, feeds), strict=True))
