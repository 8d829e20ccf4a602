"""What a search chooses from, what it predicts, and that what it finds costs and loses what it says."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from float_networks import inverted_residuals, pyramid, residual
from tiny import tiny_frames, write_tiny

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed; pip install 'fieldtune[search]'")
pytest.importorskip("optuna", reason="Optuna is not installed; pip install 'fieldtune[search]'")

from scipy.stats import spearmanr

from boards import load_board
from firmware_gen.limits import allowed_ram
from firmware_gen.project import plan_network
from firmware_gen.update import UpdatePlan, parse_update
from quantize import search_generations
from quantize.float_network import FloatNetwork, read_network
from quantize.onnx_writer import float_model
from quantize.prune_costs import CostModel, Costs, int8_network
from quantize.prune_goals import Drop, Goals
from quantize.scheme import division
from quantize.search import Options, Result, _goals, search_network
from quantize.search_evaluate import Evaluator, Setting
from quantize.search_generations import best_predicted
from quantize.search_predictor import Growths, Predictor, Sensitivities, rank_correlation
from quantize.search_space import Candidate, Space
from quantize.search_store import Trial, not_dominated
from quantize.task_scores import Judge
from quantize.training_samples import LabelledSamples
from quantize.training_set import hold_out, labelled
from zoo.frames import Frames

BOARD = load_board("mps2_an386")
FRAMES = tiny_frames(16)


def three_heads(path: Path) -> Path:
    return write_tiny(path, ("depth", "segments", "kind"))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> FloatNetwork:
    return read_network(three_heads(tmp_path_factory.mktemp("network") / "tiny.onnx"))


@pytest.fixture
def few_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_generations, "GENERATIONS", 2)
    monkeypatch.setattr(search_generations, "POPULATION", 12)


def _space(network: FloatNetwork) -> Space:
    return Space(network.graph, "dsp", 0.25, ("int8", "float"))


def _setting(network: FloatNetwork, board: str, update: UpdatePlan, kept: frozenset[str]) -> Setting:
    values = sum(network.graph.shape(spec.name)[2] for spec in network.task.outputs if spec.kind == "value")
    frames = [replace(each, target=np.ones(values, np.float32)) if values else each for each in FRAMES]
    training, judged = hold_out(Frames.of(frames), 0, network, "a test")
    types = ("int8", "float")
    return Setting(
        network,
        load_board(board),
        update,
        Goals({"ram": 1e9}),
        0.25,
        types,
        kept,
        0,
        1e-3,
        training,
        judged,
        8,
    )


# --- the space


def test_numbers_of_channels_suit_the_kernels_and_the_whole_network_is_a_choice(
    network: FloatNetwork,
) -> None:
    space = _space(network)
    channels = {op.name: network.graph.shape(op.outputs[0])[2] for op in network.graph.ops}
    for name, counts in zip(space.groups, space.levels, strict=True):
        assert counts[0] == channels[name]
        assert list(counts) == sorted(set(counts), reverse=True)
        assert all(count % 4 == 0 and count >= channels[name] / 4 for count in counts[1:])
    assert space.graph_of(space.whole("int8")).fingerprint() == network.graph.fingerprint()
    assert space.float_layers(space.whole("float")) == {*space.layers}
    assert not space.float_layers(space.whole("int8"))
    assert not space.features(space.reference).any()


def test_a_candidate_is_the_graph_that_its_genes_say(network: FloatNetwork) -> None:
    space = _space(network)
    drawn = [space.random(np.random.default_rng(k)) for k in range(40)]
    for candidate in drawn:
        assert space.candidate(space.values(candidate)) == candidate
        assert space.values(candidate).keys() == space.genes().keys()
        graph = space.graph_of(candidate)
        made = {op.name: graph.shape(op.outputs[0])[2] for op in graph.ops}
        assert tuple(made[name] for name in space.groups) == candidate.channels
    for gene in zip(*((*each.channels, *each.floats) for each in drawn), strict=True):
        assert len({*gene}) > 1


@pytest.mark.parametrize(
    ("narrowest", "types", "named"), [(1.0, ("int8", "float"), "type"), (0.25, ("int8",), "channels")]
)
def test_widths_or_types_can_be_left_alone(
    narrowest: float, types: Sequence, named: str, network: FloatNetwork
) -> None:
    space = Space(network.graph, "dsp", narrowest, types)
    assert {name.partition(" of ")[0] for name in space.genes()} == {named}
    candidate = space.random(np.random.default_rng(0))
    assert space.candidate(space.values(candidate)) == candidate


def test_layers_that_share_weights_are_of_one_type(network: FloatNetwork) -> None:
    first, second = (op for op in network.graph.ops if op.name in ("segments", "kind"))
    shared = replace(second, constants=(second.constants[0], first.constants[1]))  # both biases have 3
    ops = [shared if op is second else op for op in network.graph.ops]
    space = Space(network.graph.with_ops(ops), "dsp", 1.0, ("int8", "float"))
    assert "kind" not in space.layers
    only = Candidate((), tuple(name == "segments" for name in space.layers))
    assert space.float_layers(only) == {"segments", "kind"}


def test_layers_that_are_kept_in_float_are_no_choice(network: FloatNetwork) -> None:
    space = Space(network.graph, "dsp", 0.25, ("int8", "float"), ["enc0"])
    assert "type of enc0" not in space.genes()
    assert space.float_layers(space.whole("int8")) == {"enc0"}


# --- costs and losses


@pytest.mark.parametrize("write", [three_heads, inverted_residuals, residual])
@pytest.mark.parametrize("board", ["mps2_an386", "mps3_an547"])
def test_costs_of_a_mixed_candidate_are_those_of_its_file(
    write: Callable[[Path], Path], board: str, tmp_path: Path
) -> None:
    network = read_network(write(tmp_path / "net.onnx"))
    ops = network.graph.ops
    learns = next(op.name for op in reversed(ops) if op.constants)
    kept = frozenset(op.name for op in ops[-2:] if op.kind == "softmax")  # in int8 it does not learn
    evaluator = Evaluator(_setting(network, board, parse_update(learns), kept))
    space = Space(network.graph, load_board(board).isa, 0.25, ("int8", "float"), kept)
    drawn = [space.random(np.random.default_rng(k)) for k in range(3)]
    for candidate in (space.whole("float"), *drawn):
        asked, measured = evaluator.costs(candidate), evaluator.evaluate(candidate).costs
        assert (asked.ram, asked.backward_ram) == (measured.ram, measured.backward_ram)
        assert asked.instructions == pytest.approx(measured.instructions, rel=1e-9)
        assert asked.flash == pytest.approx(measured.flash, rel=0.05)
    assert len({evaluator.costs(each).flash for each in drawn}) > 1


def test_all_layers_in_float_leave_no_integer(tmp_path: Path) -> None:
    graph = read_network(pyramid(tmp_path / "net.onnx")).graph
    assert not graph.ops[-1].constants
    assert not division(graph, [op.name for op in graph.ops if op.constants]).tensors


def test_a_file_is_judged_as_its_graph_is(network: FloatNetwork) -> None:
    judge = Judge(network.task, LabelledSamples(labelled(FRAMES, network), network.graph), "frames")
    graph, file = judge.scores(network.graph), judge.file_scores(float_model(network.graph))
    for name, score in graph.items():
        assert file[name].loss == pytest.approx(score.loss, rel=1e-4)
        assert file[name].points == score.points


# --- the predictor


def _made_up(space: Space, noise: float) -> tuple[Sensitivities, Callable[[Candidate], Growths]]:
    """Return sensitivities, and true growths that are twice as large for types and a half of the widths'."""
    rng = np.random.default_rng(5)
    types = {layer: rng.exponential(0.1, 2) for layer in space.layers}
    widths = {
        name: {count: rng.exponential(1 - count / counts[0], 2) for count in counts[1:]}
        for name, counts in zip(space.groups, space.levels, strict=True)
    }
    found = Sensitivities(2, types, widths)

    def growths(candidate: Candidate) -> Growths:
        return np.array([2.0, 0.5]) @ found.sums(space, candidate) + rng.normal(0, noise, 2)

    return found, growths


def test_the_predictor_ranks_what_it_has_not_seen(network: FloatNetwork) -> None:
    space = _space(network)
    sensitivities, growths = _made_up(space, noise=0.05)
    drawn = [space.random(np.random.default_rng(k)) for k in range(60)]
    true = np.stack([growths(each) for each in drawn])
    predict = Predictor(space, sensitivities, drawn[:20], true[:20])
    found = predict(drawn[20:])
    for output in (0, 1):
        correlation = rank_correlation(found[:, output], true[20:, output])
        assert correlation is not None
        assert correlation > 0.9


def test_the_reference_is_predicted_as_it_was_measured(network: FloatNetwork) -> None:
    space = _space(network)
    sensitivities, growths = _made_up(space, noise=0.0)
    drawn = [space.reference, *(space.random(np.random.default_rng(k)) for k in range(5))]
    true = np.stack([growths(each) + 0.3 for each in drawn])
    predict = Predictor(space, sensitivities, drawn, true)
    np.testing.assert_allclose(predict([space.reference])[0], true[0], rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_rank_correlation_is_spearmans(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 6, (2, 12))
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_rank_correlation_of_too_little_is_unknown() -> None:
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) is None


# --- the generations


def test_generations_find_what_no_other_candidate_is_predicted_to_better(network: FloatNetwork) -> None:
    space = Space(network.graph, "c", 0.4, ("int8",))
    _, growths = _made_up(space, noise=0.0)
    predict = lambda some: np.stack([growths(each) for each in some])  # noqa: E731
    every = [Candidate(each, space.whole("int8").floats) for each in itertools.product(*space.levels)]
    costs = {each: Costs(sum(each.channels), sum(np.square(each.channels)), 7.0) for each in every}
    goals = Goals({"flash": float(np.median([each.flash for each in costs.values()]))})
    most = np.quantile(predict(every), 0.6, 0)
    trials = [
        Trial(each, costs[each], {}, float(growths(each).max()), None)
        for each in every
        if goals.hold(costs[each]) and (growths(each) <= most).all()
    ]
    true = {trial.candidate for trial in not_dominated(trials)}
    assert 2 < len(true) < len(trials) < len(every)
    found = best_predicted(space, predict, lambda some: [costs[each] for each in some], goals, most, [], 0)
    assert len(found) == len({*found})
    assert {*found} == true
    assert growths(found[0]).max() == min(growths(each).max() for each in found)


# --- the search


def test_limits_are_the_boards_or_less(network: FloatNetwork) -> None:
    drops = dict.fromkeys(_given(network), Drop(10.0))
    have = {"ram": allowed_ram(BOARD, None), "flash": BOARD.flash.bytes}
    assert _goals(network, Options(BOARD, {}, drops)).limits == have
    assert _goals(network, Options(BOARD, {"ram": "1024M"}, drops)).limits == have
    assert _goals(network, Options(BOARD, {"flash": "1K"}, drops)).limits == {**have, "flash": 1024}
    instructions = CostModel(network.task, BOARD, parse_update(None)).planned(network.graph).instructions
    half = _goals(network, Options(BOARD, {"instructions": "50%"}, drops)).limits
    assert half == {**have, "instructions": pytest.approx(instructions / 2)}


def test_where_all_lies_in_one_memory_the_sum_is_limited(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "tiny.onnx", size=48))
    board, update = load_board("gap9_evk"), parse_update("depth")
    whole = CostModel(network.task, board, update).whole(network.graph)
    assert whole.memory == plan_network(int8_network(network.graph, network.task), board, update).sum_bytes
    small = replace(board, regions=(replace(board.regions[0], bytes=whole.memory - 4000),))
    goals = _goals(network, Options(small, {}, dict.fromkeys(_given(network), Drop(10.0))))
    assert {name for name, share in goals.excess(whole).items() if share} == {"memory"}
    assert not goals.hold(whole)
    assert goals.hold(CostModel(network.task, small, update).planned(network.graph)), "in bands of rows"


def _search(network: FloatNetwork, out: Path, **changes: object) -> Result:
    drops = {spec.name: Drop(400.0) for spec in network.task.learned}
    options = Options(BOARD, {}, drops, trials=8, first=3, samples=4, test=4, epochs=1)
    return search_network(network, FRAMES, replace(options, **changes), out)  # type: ignore[arg-type]


def _files(result: Result, out: Path) -> dict[str, bytes]:
    return {point.file: (out / point.file).read_bytes() for point in result.points}


@pytest.mark.usefixtures("few_generations")
def test_a_search_that_was_stopped_ends_as_if_it_had_not_been(network: FloatNetwork, tmp_path: Path) -> None:
    whole = _search(network, tmp_path / "whole")
    assert (len(whole.trials), whole.seen) == (8, 0)
    assert sum(trial.predicted is not None for trial in whole.trials) == 5

    for trials in (2, 5):  # while it draws, and in the middle of a batch
        assert len(_search(network, tmp_path / "parts", trials=trials).trials) == trials
    resumed = _search(network, tmp_path / "parts")
    assert resumed.seen == 5
    assert {**resumed.describe(), "seen": 0} == whole.describe()
    assert _files(resumed, tmp_path / "parts") == _files(whole, tmp_path / "whole")


@pytest.mark.long
@pytest.mark.usefixtures("few_generations")
def test_the_number_of_processes_changes_nothing(network: FloatNetwork, tmp_path: Path) -> None:
    alone, together = (_search(network, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert together.describe() == alone.describe()
    assert _files(together, tmp_path / "2") == _files(alone, tmp_path / "1")


@pytest.mark.usefixtures("few_generations")
def test_points_keep_the_limits_and_nothing_that_was_evaluated_betters_them(
    network: FloatNetwork, tmp_path: Path
) -> None:
    (tmp_path / "point-99.onnx").write_bytes(b"of an older search")
    result = _search(network, tmp_path, keep={"flash": "96%"}, trials=8)
    limit = result.goals.limits["flash"]
    assert result.references["float"].costs.flash > limit
    given = np.array([*_given(network).values()])
    allowed = [
        trial
        for trial in result.trials
        if trial.costs.flash <= limit and max([*trial.losses.values()] / given) <= 5
    ]
    for point in result.points:
        assert point.trial in allowed
        assert not any(_betters(other, point.trial) for other in allowed)
    assert len(result.points) == sum(
        not any(_betters(other, trial) for other in allowed) for trial in allowed
    )
    files = {file.name for file in tmp_path.glob("point-*.onnx")}
    assert files == {name for point in result.points for name in (point.file, point.float_file)} != set()


def _given(network: FloatNetwork) -> dict[str, float]:
    _, judged = hold_out(FRAMES, 4, network, "a test")
    scores = Judge(network.task, LabelledSamples(judged, network.graph), "frames").file_scores(network.model)
    return {name: score.loss for name, score in scores.items()}


def _betters(a: Trial, b: Trial) -> bool:
    pairs = [*zip(_numbers(a), _numbers(b), strict=True)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def _numbers(trial: Trial) -> list[float]:
    costs = asdict(trial.costs)
    return [trial.growth, costs["ram"], costs["flash"], costs["instructions"]]


@pytest.mark.usefixtures("few_generations")
def test_two_machines_share_a_data_base(network: FloatNetwork, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/trials.db"
    first = _search(network, tmp_path / "a", storage=storage, trials=4)
    second = _search(network, tmp_path / "b", storage=storage, trials=6, seed=1)
    assert second.seen == 4
    assert second.trials[:4] == first.trials
    # What only the other has evaluated is made again, to the same bytes.
    shared = {point.trial.candidate: point.file for point in first.points}
    again = [point for point in second.points if point.trial.candidate in shared]
    assert again
    for point in again:
        file = tmp_path / "a" / shared[point.trial.candidate]
        assert (tmp_path / "b" / point.file).read_bytes() == file.read_bytes()
    other = _search(network, tmp_path / "c", storage=storage, trials=1, rate=1e-4)
    assert other.seen == 0  # another fine-tuning makes other networks


@pytest.mark.usefixtures("few_generations")
def test_a_search_ends_when_all_there_is_was_evaluated(network: FloatNetwork, tmp_path: Path) -> None:
    result = _search(network, tmp_path, types=("int8",), narrowest=0.6, trials=1000, epochs=0)
    space = Space(network.graph, "dsp", 0.6, ("int8",))
    assert 1 < len(result.trials) <= space.size < 1000
