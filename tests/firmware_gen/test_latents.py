"""A training step from latents has the bits of one on the frame that they were made of."""

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_moving
from networks import Net
from numpy.typing import NDArray
from quick_board import quick_board
from tiny import SIZE, tiny_task, write_tiny

import boards
from boards import load_board
from fieldtune.errors import DoesNotFitError, UserError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.bands import Bands
from firmware_gen.graph import Graph
from firmware_gen.operators import OPERATORS
from firmware_gen.passes import lighten
from firmware_gen.passes.latents import with_latents
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import load_network, write_project
from firmware_gen.recompute import kept, recompute
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.device import Device, Hyper

Arrays = dict[str, NDArray[Any]]
STEPS = 4
KEPT = UpdatePlan(("dec*",), momentum=True, keep_gradients=True, clip_norm=True)
HYPER = Hyper(0.02, momentum=0.5, clip_norm=1.0, accumulate=2)


def tiny(folder: Path, update: UpdatePlan, heads: tuple[str, ...] = ("depth",), size: int = SIZE) -> Graph:
    """image -> enc0 -> enc1 -> up -> skip -> dec -> heads, and enc0 -> skip; as a training graph."""
    graph = load_network(write_tiny(folder / "tiny.onnx", heads, size=size)).graph
    losses = tuple(LossSpec(spec.name, spec.loss) for spec in tiny_task(heads).outputs)
    return lighten(training_graph(graph, losses, update))


def branches(folder: Path) -> Graph:
    """input0 -> first -> one (learns), first -> second -> two (learns), and input1 -> three (learns)."""
    net = Net(seed=4)
    first = net.conv(net.input(3, 12, 12), 4, (3, 3), pads=(1, 1, 1, 1), name="first")
    net.loss(net.conv(first, 2, stride=(2, 2), name="one"), "mse")
    second = net.conv(first, 16, (3, 3), pads=(1, 1, 1, 1), name="second")
    net.loss(net.conv(second, 2, stride=(2, 2), name="two"), "mse")
    net.loss(net.conv(net.input(2, 3, 3), 2, name="three"), "mse")
    update = UpdatePlan(("one", "two", "three"))
    return lighten(training_graph(net.graph(folder), tuple(net.losses), update))


def int8(folder: Path) -> Graph:
    """x -> low -> head (learns) -> half -> up -> joined -> mix -> y, and low -> joined, between integers."""
    graph = test_moving.network().graph(folder)
    return lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), parse_update("head")))


def plan_of(graph: Graph, layer: str, board: str = "native", ram: int | None = None) -> Plan:
    return make_plan(with_latents(graph, layer), quick_board(board), ram)


def samples(graph: Graph) -> list[Arrays]:
    random = np.random.default_rng(3)
    return [
        {name: drawn(graph, name, random) for name in (*graph.inputs, *graph.labels, *graph.masks)}
        for _ in range(STEPS)
    ]


def drawn(graph: Graph, name: str, random: np.random.Generator) -> NDArray[Any]:
    tensor = graph.tensors[name]
    if tensor.dtype == "f32":
        return random.standard_normal(tensor.shape).astype(np.float32)
    if name in graph.labels:
        return random.integers(0, 3, tensor.shape).astype(np.uint8)
    return random.integers(0, 2 if name in graph.masks else 256, tensor.shape).astype(np.uint8)


def built(plan: Plan, folder: Path) -> Path:
    write_project(plan, folder)
    return boards.build(folder, plan.board).elf


def learned(plan: Plan, elf: Path, frames: Collection[int] = range(STEPS)) -> Arrays:
    """Return what the steps leave on a board that sees these frames, and latents of the others."""
    with contextlib.ExitStack() as stack:
        maker, learner = (
            stack.enter_context(Device.open(stack.enter_context(boards.start(elf, plan.board)).url))
            for _ in range(2)
        )
        learner.set_hyper(HYPER)
        losses: list[float] = []
        for step, sample in enumerate(samples(plan.graph)):
            if step not in frames:
                maker.put_sample({name: sample[name] for name in plan.graph.inputs})
                maker.run_inference(0, plan.latent_step)
                others = (*plan.graph.inputs_above, *plan.graph.labels, *plan.graph.masks)
                sample = {**maker.read_role("latent"), **{name: sample[name] for name in others}}
            learner.put_sample(sample)
            losses += learner.step(step, 0 if step in frames else plan.latent_step).losses
        return left(learner, losses)


def left(device: Device, losses: list[float]) -> Arrays:
    assert device.memory().arena_intact
    return {**device.read_role("weight", "state", "range", "gradient"), "losses": np.array(losses)}


def assert_equal(one: Arrays, other: Arrays) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


# --- the same bits


@pytest.mark.parametrize(
    ("update", "heads", "layer", "latents"),
    [
        (UpdatePlan(("dec*", "depth*")), ("depth",), "up", {"enc0", "up"}),
        (KEPT, ("depth",), "skip", {"skip"}),
        (UpdatePlan(("up*", "depth*"), optimizer="adam"), ("depth",), "enc1", {"enc0", "enc1"}),
        (UpdatePlan(("dec*:1/2",)), ("depth", "segments"), "enc1", {"enc0", "enc1"}),
    ],
    ids=["sgd", "kept", "adam", "channels"],
)
def test_float_latents_give_the_bits_of_the_frame(
    update: UpdatePlan, heads: tuple[str, ...], layer: str, latents: set[str], tmp_path: Path
) -> None:
    plan = plan_of(tiny(tmp_path, update, heads), layer)
    assert set(plan.graph.latents) == latents
    elf = built(plan, tmp_path / "project")
    assert_equal(learned(plan, elf, frames=[1]), learned(plan, elf))


def test_int8_latents_give_the_bits_of_the_frame_on_every_board(tmp_path: Path) -> None:
    graph = int8(tmp_path)
    truth = None
    for board in ("native", "mps2_an386"):
        plan = plan_of(graph, "low", board)
        assert {plan.graph.tensors[name].dtype for name in plan.graph.latents} == {"i8"}
        elf = built(plan, tmp_path / board)
        truth = truth or learned(plan, elf)
        assert_equal(learned(plan, elf, frames=[2]), truth)


def test_latents_behind_bands_give_the_bits_of_the_frame(tmp_path: Path) -> None:
    graph = tiny(tmp_path, UpdatePlan(("depth*",)))
    whole = plan_of(graph, "dec")
    plan = plan_of(graph, "dec", ram=whole.ram_bytes * 3 // 4)
    assert plan.steps[plan.latent_step - 1].chain is not None
    assert plan.steps[plan.latent_step].op.name == "depth"
    elf = built(plan, tmp_path / "project")
    assert_equal(learned(plan, elf, frames=[]), learned(plan, elf))


# --- the plan


def test_what_makes_latents_comes_before_all_else(tmp_path: Path) -> None:
    graph = branches(tmp_path)
    assert [op.name for op in graph.ops[:4]] == ["first", "one", "second", "two"]
    plan = plan_of(graph, "second")
    assert [step.op.name for step in plan.steps[: plan.latent_step]] == ["first", "second"]
    assert plan.graph.inputs_above == ("input1",)
    assert plan.describe()["latents"]["bytes"] == 4 * (12 * 12 * (4 + 16) + 3 * 3 * 2)
    elf = built(plan, tmp_path / "project")
    assert_equal(learned(plan, elf, frames=[]), learned(plan, elf))


def test_no_chain_of_bands_goes_over_the_latents(tmp_path: Path) -> None:
    graph = tiny(tmp_path, UpdatePlan(("depth*",)))
    ram = make_plan(graph, load_board("native")).ram_bytes * 3 // 4
    without = make_plan(graph, load_board("native"), ram)
    assert any(step.chain and step.op.name == "skip" for step in without.steps)
    with pytest.raises(DoesNotFitError):
        plan_of(graph, "skip", ram=ram)
    cut = with_latents(graph, "skip")
    bands, at = Bands(cut), cut.latent_ops
    assert [bands.chain(at - 2, end, 1) is None for end in (at, at + 1)] == [False, True]


def test_nothing_that_makes_latents_is_made_again(tmp_path: Path) -> None:
    graph = branches(tmp_path)
    made_again = recompute(graph, kept(graph))
    assert any(op.name == "second" and op.phase == "backward" for op in made_again.ops)
    cut = with_latents(graph, "second")
    assert set(cut.latents) == {"first", "second"}
    assert recompute(cut, kept(cut)).ops == cut.ops


def test_the_plan_tells_what_a_step_from_latents_takes(tmp_path: Path) -> None:
    graph = tiny(tmp_path, UpdatePlan(("dec*",)))
    plan, without = plan_of(graph, "up", "netduinoplus2"), make_plan(graph, load_board("netduinoplus2"))
    described, all_macs = plan.describe()["latents"], plan.macs("forward", "loss", "backward", "update")
    below = sum(OPERATORS[op.kind].macs(op, graph) for op in graph.ops if op.name in ("enc0", "enc1", "up"))
    assert described["layer"] == "up"
    assert described["tensors"] == ["enc0", "up"]
    assert described["bytes"] == 2 * 6 * SIZE * SIZE * 4
    assert described["frame_bytes"] == 3 * SIZE * SIZE
    assert described["macs"] == all_macs - below
    assert 0 < described["instructions_estimate"] < plan.describe()["instructions_estimate"]
    assert "latents" not in without.describe()
    assert plan.hash() != without.hash()


# --- which layer


@pytest.mark.parametrize(
    ("update", "layer", "says"),
    [
        (
            "dec*",
            "enc",
            r"no layer of tiny is called 'enc' as --latents has it; did you mean enc\d or enc\d\?$",
        ),
        (
            "dec*",
            "x",
            "called 'x' as --latents has it; the layers are image, enc0, enc1, up, skip, ",
        ),
        (
            "dec*",
            "dec",
            "--latents dec of tiny: dec learns, .*; name a layer below all .*, such as up$",
        ),
        ("dec*,enc1", "up", "--latents up of tiny: enc1 learns, .* such as enc0$"),
        ("enc0", "up", "enc0 learns, .*; no layer lies below all that learns: leave out --latents$"),
        (
            "kind*",
            "depth",
            "its output 'depth' is made there; name a layer below all .*, such as dec$",
        ),
        ("dec*:1/2", "dec.frozen_behind", "no layer of tiny is called 'dec.frozen_behind'"),
    ],
)
def test_layers_that_cannot_have_latents_are_refused(
    update: str, layer: str, says: str, tmp_path: Path
) -> None:
    graph = tiny(tmp_path, parse_update(update), ("depth", "kind") if layer == "depth" else ("depth",))
    with pytest.raises(UserError, match=says):
        with_latents(graph, layer)
