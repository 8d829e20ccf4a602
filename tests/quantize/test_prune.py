"""Which channels go, what the network then costs, and that no task pays more than it may."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from float_networks import inverted_residuals, residual
from tiny import tiny_frames, write_tiny

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed; pip install 'fieldtune[prune]'")

from boards import load_board
from fieldtune.errors import UserError
from firmware_gen.graph import Array, Constant, Graph
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from quantize.channel_groups import channel_groups, without
from quantize.float_network import FloatNetwork, pixels, read_network
from quantize.onnx_writer import quantized_model
from quantize.onnxruntime_backend import calibrate
from quantize.parameters import covering
from quantize.prune import Options, _parts, prune_network
from quantize.prune_costs import CostModel
from quantize.prune_goals import Drop, Goals, parse_drops, parse_goals
from quantize.prune_methods import Losses, Round, _pagcp, _sweep, _thresholds, choose
from quantize.reconstruct import Moments
from quantize.scheme import divide
from quantize.task_scores import Judge, Score
from quantize.training_samples import LabelledSamples
from quantize.training_set import labelled
from zoo.frames import Frames

BOARD = load_board("mps2_an386")
NOTHING = parse_update(None)


def three_heads(path: Path) -> Path:
    return write_tiny(path, ("depth", "segments", "kind"))


@pytest.fixture
def network(tmp_path: Path) -> FloatNetwork:
    return read_network(three_heads(tmp_path / "net.onnx"))


def _round(
    network: FloatNetwork,
    goals: Goals,
    losses: Callable[[Graph], Array],
    patience: Array | None = None,
    moments: Moments | None = None,
) -> Round:
    model = CostModel(network.task, BOARD, NOTHING)
    given = np.ones(len(network.task.outputs)) if patience is None else patience
    return Round(network.graph, "dsp", goals, model.whole, Losses(losses, given), moments or {})


def _samples(frames: Frames, network: FloatNetwork) -> LabelledSamples:
    return LabelledSamples(labelled(frames, network), network.graph)


def _judge(network: FloatNetwork) -> Judge:
    return Judge(network.task, _samples(tiny_frames(12), network), "frames")


# --- costs


@pytest.mark.parametrize("write", [three_heads, inverted_residuals, residual])
@pytest.mark.parametrize("board", ["mps2_an386", "mps3_an547"])
def test_costs_are_those_of_the_quantized_file(
    write: Callable[[Path], Path], board: str, tmp_path: Path
) -> None:
    network = read_network(write(tmp_path / "net.onnx"))
    groups = channel_groups(network.graph)
    graph = without(network.graph, {group: (0, 1) for group in groups})
    last = graph.ops[-1]
    update = parse_update(last.name if last.constants else None)  # int8 softmax does not learn
    costs = CostModel(network.task, load_board(board), update).whole(graph)

    inputs = [pixels(frame, network) for frame in tiny_frames(4)]
    types = {spec.name: covering(spec.bias, 255 * spec.scale + spec.bias) for spec in network.task.inputs}
    quantized = calibrate(divide(graph), inputs, types)
    file = tmp_path / "int8.onnx"
    file.write_bytes(quantized_model(quantized, network.task))
    plan = plan_network(load_network(file), load_board(board), NOTHING)
    assert costs.ram == plan.ram_bytes
    if update.patterns:
        assert costs.backward_ram == plan_network(load_network(file), load_board(board), update).ram_bytes
    assert costs.instructions == pytest.approx(plan.instructions, rel=1e-9)
    assert costs.flash == pytest.approx(sum(plan.flash.values()), rel=0.05)


def test_ram_within_a_limit_is_what_the_planner_comes_to(network: FloatNetwork) -> None:
    whole = CostModel(network.task, BOARD, NOTHING).planned(network.graph).ram
    banded = CostModel(network.task, BOARD, NOTHING, whole - 1)
    assert banded.whole(network.graph).ram == whole
    assert banded.planned(network.graph).ram < whole


# --- goals


def test_drops_name_outputs_and_what_is_left_for_the_others(network: FloatNetwork) -> None:
    assert parse_drops("segments=1.5pt, 2%", network.task) == {
        "depth": Drop(2.0),
        "segments": Drop(1.5, points=True),
        "kind": Drop(2.0),
    }
    assert Drop(2.0).of(Score(0.5), Score(0.51)) == pytest.approx(2.0)
    assert Drop(1.0, points=True).of(Score(1.0, 60.0), Score(2.0, 58.5)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("much", "'much' is no drop"),
        ("depth=2", "'depth=2' is no drop"),
        ("colour=2%", "names 'colour'"),
        ("depth=2%", "says nothing of 'segments'"),
        ("1pt", "'depth' is of kind depth"),
    ],
)
def test_other_drops_are_refused(text: str, message: str, network: FloatNetwork) -> None:
    with pytest.raises(UserError, match=message):
        parse_drops(text, network.task)


def test_goals_are_numbers_or_shares_of_what_is_taken(network: FloatNetwork) -> None:
    costs = CostModel(network.task, BOARD, NOTHING).whole(network.graph)
    goals = parse_goals({"ram": "8K", "instructions": "40%", "flash": "50 %"}, costs)
    assert goals.limits == {
        "ram": 8192,
        "flash": costs.flash / 2,
        "instructions": pytest.approx(0.4 * costs.instructions),
    }
    assert parse_goals({"instructions": "0.5M"}, costs).limits == {"instructions": 5e5}


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({}, "nothing to prune for"),
        ({"ram": "lots"}, "'lots' is not a size"),
        ({"instructions": "few"}, "'few' is no number of instructions"),
        ({"flash": "0%"}, "leaves nothing"),
    ],
)
def test_other_goals_are_refused(keep: dict[str, str], message: str, network: FloatNetwork) -> None:
    costs = CostModel(network.task, BOARD, NOTHING).whole(network.graph)
    with pytest.raises(UserError, match=message):
        parse_goals(keep, costs)


# --- methods


def test_thresholds_fall_and_come_to_the_budget() -> None:
    for count, budget in ((1, 0.5), (3, 0.5), (20, 0.5), (20, 6.0)):
        found = _thresholds(count, budget)
        assert all(later <= earlier for earlier, later in itertools.pairwise(found))
        assert np.prod(1 + np.array(found)) == pytest.approx(1 + budget, rel=1e-6)


def test_a_sweep_stops_before_any_task_loses_more_than_its_share(network: FloatNetwork) -> None:
    """Each channel that goes costs the first two tasks 1 %, and the third nothing."""

    def channels(graph: Graph) -> int:
        return sum(graph.shape(op.outputs[0])[2] for op in graph.ops if op.kind == "conv2d")

    def losses(graph: Graph) -> Array:
        lost = 0.01 * (channels(network.graph) - channels(graph))
        return np.array([1 + lost, 1 + lost, 1], np.float32)

    def lost(patience: Sequence[float], budget: float) -> float:
        given = _round(network, Goals({"instructions": 1.0}), losses, np.array(patience))
        found = _sweep(given, list(given.groups), budget)
        pruned = given.pruned({each.group: each.ranking[: each.count] for each in found})
        return float(losses(pruned).max() - 1)

    assert 0 < lost((1, 1, 1), 0.15) <= 0.15
    assert lost((1, 1, 0), 0.15) == lost((1, 1, 1), 0.15)
    assert lost((1, 0, 1), 0.15) == 0
    assert 0.15 < lost((1, 1, 1), 0.5) <= 0.5


def test_channels_that_a_task_needs_stay_and_others_go(network: FloatNetwork) -> None:
    """Of `dec`, two thirds of the channels are read by no head."""
    constants = dict(network.graph.constants)
    for head in ("depth", "segments", "kind"):
        value = constants[f"{head}.weight"].value.copy()
        value[:, :, 4:] = 0
        constants[f"{head}.weight"] = Constant(f"{head}.weight", value)
    graph = replace(network.graph, constants=constants)
    idle = replace(network, graph=graph)
    dec = next(group for group in channel_groups(graph) if group.name == "dec")
    weight = constants["dec.weight"].value.copy()
    weight[..., :4] *= 10
    constants["dec.weight"] = Constant("dec.weight", weight)
    judge = _judge(idle)
    enough = CostModel(idle.task, BOARD, NOTHING).whole(without(graph, {dec: range(4, 12)})).instructions
    given = _round(idle, Goals({"instructions": enough}), judge.losses)
    kept = _pagcp(given)
    assert set(kept[dec]) == {0, 1, 2, 3}


@pytest.mark.parametrize("method", ["pagcp", "l1", "uniform"])
def test_a_round_keeps_its_goals_and_counts_that_kernels_like(method: str, network: FloatNetwork) -> None:
    judge = _judge(network)
    costs = CostModel(network.task, BOARD, NOTHING).whole
    before = costs(network.graph)
    goals = Goals({"instructions": 0.6 * before.instructions, "flash": 0.97 * before.flash})
    smaller = choose(method, _round(network, goals, judge.losses))  # type: ignore[arg-type]
    assert goals.hold(costs(smaller))
    for op in smaller.ops:
        now, was = smaller.shape(op.outputs[0])[2], network.graph.shape(op.outputs[0])[2]
        if op.kind == "conv2d":
            assert now == was or now % 4 == 0


def test_l1_removes_the_smallest_filters_of_all(network: FloatNetwork) -> None:
    constants = dict(network.graph.constants)
    weight = constants["enc1.weight"].value.copy()
    weight[..., [1, 3, 4, 6]] *= 1e-3
    constants["enc1.weight"] = Constant("enc1.weight", weight)
    small = replace(network, graph=replace(network.graph, constants=constants))
    before = CostModel(small.task, BOARD, NOTHING).whole(small.graph)
    found = choose("l1", _round(small, Goals({"flash": before.flash - 1}), _judge(small).losses))
    np.testing.assert_array_equal(found.constants["enc1.weight"].value, weight[..., [0, 2, 5, 7]])
    assert found.shape("dec")[2] == 12


def test_a_sweep_leaves_a_quarter_of_each_group_at_least(network: FloatNetwork) -> None:
    model = CostModel(network.task, BOARD, NOTHING)
    losses = Losses(_judge(network).losses, np.ones(3))
    given = Round(network.graph, "c", Goals({"instructions": 1.0}), model.whole, losses, {})
    for group in given.groups:
        levels = given.levels(group)
        assert levels == sorted(levels, reverse=True)
        assert levels[-1] == round(group.channels / 4)
        assert levels[0] < group.channels


# --- the whole


def test_blocks_from_everywhere_are_held_out(network: FloatNetwork) -> None:
    """Neighbours in a recording are much alike, and its parts differ."""
    frames = Frames.of(list(tiny_frames(136)))
    parts = _parts(network, frames, 8)
    blocks = [range(first, first + 2) for first in range(14, 128, 16)]
    held_out = [k for block in blocks for k in block]
    training = [k for k in range(128) if k not in held_out]
    assert len(parts.training) == len(training)
    images = np.concatenate([pixels(frames[k], network)["image"] for k in training])
    np.testing.assert_array_equal(parts.training.whole().inputs["image"], images)
    expected = Judge(network.task, _samples(Frames.of([frames[k] for k in held_out]), network), "frames")
    np.testing.assert_array_equal(parts.held_out.losses(network.graph), expected.losses(network.graph))


def _options(**changes: object) -> Options:
    drops = {name: Drop(1000.0) for name in ("depth", "segments", "kind")}
    keep = {"instructions": "60%"}
    return replace(Options(BOARD, keep, drops, rounds=2, epochs=1, test=8), **changes)  # type: ignore[arg-type]


def test_the_same_arguments_give_the_same_bytes(network: FloatNetwork) -> None:
    frames = Frames.of(list(tiny_frames(40)))
    first, second = (prune_network(network, frames, _options(rounds=1)) for _ in range(2))
    assert first.model == second.model
    assert first.missed == []
    other = prune_network(network, frames, _options(rounds=1, seed=1))
    assert other.model != first.model


def test_layers_keep_their_names_and_an_update_plan_still_applies(
    network: FloatNetwork, tmp_path: Path
) -> None:
    result = prune_network(network, tiny_frames(40), _options(update=parse_update("dec")))
    file = tmp_path / "pruned.onnx"
    file.write_bytes(result.model)
    again = read_network(file)
    assert [op.name for op in again.graph.ops] == [op.name for op in network.graph.ops]
    assert again.task == network.task
    assert result.costs[1].backward_ram is not None
    plan = plan_network(load_network(file), BOARD, parse_update("dec"))
    assert set(plan.graph.trained) == {"dec.weight", "dec.bias"}


def test_a_round_after_which_a_task_is_worse_than_it_may_be_is_undone(network: FloatNetwork) -> None:
    drops = {"depth": Drop(1000.0), "segments": Drop(-99.0), "kind": Drop(1000.0)}
    frames = tiny_frames(40)
    given = _judge(network).losses(network.graph)
    result = prune_network(network, frames, _options(drops=drops, epochs=0, method="uniform"))
    assert [candidate.accepted for candidate in result.candidates] == [True, False, False]
    assert "instructions" in result.missed
    np.testing.assert_array_equal(_judge(network).losses(result.graph), given)
    first, second = result.candidates[1:]
    assert first.costs.instructions <= second.costs.instructions < result.costs[0].instructions


def test_training_at_the_end_is_judged_like_a_round(network: FloatNetwork) -> None:
    frames = Frames.of(list(tiny_frames(40)))
    once = prune_network(network, frames, _options(rounds=1))
    longer = prune_network(network, frames, _options(rounds=1, final_epochs=2))
    assert [each.accepted for each in longer.candidates] == [True, True, True]
    assert longer.candidates[1].scores == once.candidates[1].scores
    assert longer.candidates[2].scores != once.candidates[1].scores
    assert longer.candidates[2].costs == once.costs[1]
    spoiled = replace(
        _options(rounds=1, epochs=0, final_epochs=1, rate=30.0), drops=dict.fromkeys(once.drops, Drop(100.0))
    )
    result = prune_network(network, frames, spoiled)
    assert [each.accepted for each in result.candidates] == [True, True, False]
    assert result.model == prune_network(network, frames, replace(spoiled, final_epochs=0)).model


def test_training_that_diverges_is_said(network: FloatNetwork) -> None:
    with pytest.raises(UserError, match="training diverges with --lr 1e\\+20"):
        prune_network(network, Frames.of(list(tiny_frames(40))), _options(rate=1e20))


def test_a_network_that_keeps_its_goals_already_stays(network: FloatNetwork) -> None:
    """Here in bands of rows, which the planner finds once it is told the limit."""
    whole = CostModel(network.task, BOARD, NOTHING).planned(network.graph).ram
    result = prune_network(network, tiny_frames(40), _options(keep={"ram": str(whole - 1)}))
    assert len(result.candidates) == 1
    assert result.missed == []
    assert all(before == after for before, after in result.layers.values())
    assert result.costs[0].ram == whole
    assert result.costs[1].ram < whole
