"""``--update auto`` on the tiny network."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import SIZE, tiny_frames, tiny_task, write_tiny

from boards import load_board
from fieldtune.errors import DoesNotFitError, UserError
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.search import Trials, choose_update, layer_options, search_update
from ondevice.search_bench import Bench, open_bench, side_by_side
from ondevice.search_contributions import Contribution, contributions
from ondevice.search_costs import Limits
from ondevice.search_finals import Finals, finals
from ondevice.search_found import Found
from ondevice.search_race import FINALISTS, Patterns, Raced, finalists, race
from zoo.task import format_task

BOARD = load_board("mps2_an386")
LAYERS = ["enc0", "enc1", "up", "dec", "depth"]
FREE = Limits(1 << 30)
Search = Callable[..., Found]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("search") / "tiny.onnx"))


def ram_of(network: Network, update: str, limit: int | None = None) -> int:
    return plan_network(network, BOARD, parse_update(update), limit).ram_bytes


@pytest.fixture(scope="module")
def measured(network: Network) -> dict[str, Contribution]:
    with open_bench(network, tiny_frames(), lr=0.01) as bench:
        return contributions(bench)


@pytest.fixture(scope="module")
def search(network: Network, measured: dict[str, Contribution]) -> Search:
    def choose(limits: Limits, update: UpdatePlan | None = None) -> Found:
        return choose_update(network, BOARD, measured, update or UpdatePlan(), limits)

    return choose


def test_layers_are_measured_one_by_one(network: Network, measured: dict[str, Contribution]) -> None:
    assert list(measured) == LAYERS
    for name, contribution in measured.items():
        assert contribution.decrease > 0
        assert {f"{name}.weight", f"{name}.bias"} == set(contribution.gradients)
        for constant, gradient in contribution.gradients.items():
            assert gradient.shape == network.graph.constants[constant].value.shape
            assert gradient.any()


def test_without_limits_everything_learns(search: Search) -> None:
    found = search(FREE)
    assert found.update.split(",") == LAYERS
    assert {verdict.why for verdict in found.layers} == {"fits"}
    assert sum(verdict.gain for verdict in found.layers) == pytest.approx(1)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_choice_fits_says_what_it_takes_and_has_no_room_for_more(
    network: Network, search: Search, share: float
) -> None:
    low, high = ram_of(network, "depth.bias"), ram_of(network, "*")
    limits = Limits(low + round(share * (high - low)))
    found = search(limits)
    assert found.cost.ram == ram_of(network, found.update, limits.ram) <= limits.ram
    left = [verdict for verdict in found.layers if verdict.gain < verdict.possible]
    assert left
    learning = [LAYERS.index(verdict.layer) for verdict in found.layers if verdict.gain]
    for verdict in left:
        between = learning[0] <= LAYERS.index(verdict.layer) <= learning[-1]
        assert verdict.why.endswith("B too many") or (not between and verdict.why == "would fit as well")
    assert found.describe()["layers"][0]["layer"] == "enc0"
    assert found.update in found.table()


def test_a_larger_budget_never_contributes_less(network: Network, search: Search) -> None:
    low, high = ram_of(network, "depth.bias"), ram_of(network, "*")
    gains = [
        sum(verdict.gain for verdict in search(Limits(int(ram))).layers) for ram in np.linspace(low, high, 4)
    ]
    assert gains == sorted(gains)


def test_the_optimizers_state_counts(network: Network, search: Search) -> None:
    limits = Limits((ram_of(network, "depth.bias") + ram_of(network, "*")) // 2)
    update = UpdatePlan(momentum=True, keep_gradients=True)
    found = search(limits, update)
    update = parse_update(found.update, momentum=True, keep_gradients=True)
    planned = plan_network(network, BOARD, update, limits.ram)
    assert found.cost.ram == planned.ram_bytes <= limits.ram


def test_of_all_windows_of_layers_the_finals_take_one(
    network: Network, measured: dict[str, Contribution]
) -> None:
    windows = {tuple(LAYERS[first:end]) for end in range(1, 6) for first in range(end)}

    def race(entries: Sequence[Patterns]) -> tuple[Raced, ...]:
        assert sorted(entries) == sorted(windows), "each once"
        losses = {("depth",): (3.0,), ("up", "dec"): (2.0, 0.5)}
        return tuple(
            Raced(entry, losses.get(entry, (4.0,) if "depth" in entry else (2.0, 1.0)), 16)
            for entry in entries
        )

    def judge(entries: Sequence[Patterns]) -> Finals:
        assert len(entries) == FINALISTS
        assert not any("depth" in entry for entry in entries)
        return Finals(200, tuple(np.full(4, 0.5 if entry == ("up", "dec") else 0.75) for entry in entries))

    found = choose_update(network, BOARD, measured, UpdatePlan(), FREE, trials=Trials(race, judge))
    assert found.update == "up,dec"
    why = {verdict.layer: verdict.why for verdict in found.layers}
    assert why["up"] == why["dec"] == "fits"
    assert why["enc1"] == "the best trial with it came to a loss of 0.750 in 200 steps, this one to 0.500"
    assert why["depth"] == "the best trial with it came to a loss of 3.000 in 16 steps, this one to 2.000"
    assert "  16 steps  3.0000  depth" in found.table()
    assert len(found.describe()["tried"]) == len(windows) + FINALISTS


def test_of_those_that_are_level_the_simplest_wins(
    network: Network, measured: dict[str, Contribution]
) -> None:
    def race(entries: Sequence[Patterns]) -> tuple[Raced, ...]:
        return tuple(Raced(entry, (1.0,), 16) for entry in entries)

    tried = []

    def judge(entries: Sequence[Patterns]) -> Finals:
        tried[:] = entries
        return Finals(200, tuple(np.array([0.5, 1.5 + 0.01 * k]) for k in range(len(entries))))

    found = choose_update(network, BOARD, measured, UpdatePlan(), FREE, trials=Trials(race, judge))
    fewest = min(len(entry) for entry in tried)
    simple = [",".join(entry) for entry in tried if len(entry) == fewest]
    assert found.update == min(simple, key=lambda update: ram_of(network, update))
    assert len(tried) > len(simple) > 1


def test_the_furthest_with_the_lowest_losses_are_the_finalists() -> None:
    losses = [(9.0, 4.0), (1.0,), (9.0, 2.0), (9.0, 3.0), (0.5,), (9.0, 5.0), (2.0,)]
    order = [2, 3, 0, 5, 4, 1, 6]
    assert finalists([Raced((), each, 16) for each in losses]) == order[:FINALISTS]
    more = [Raced((), (0.1 * k,), 16) for k in range(FINALISTS + 1, 0, -1)]
    assert finalists(more) == list(range(FINALISTS, 0, -1))


def test_finalists_learn_with_firmware_of_their_own(network: Network) -> None:
    update = UpdatePlan(weights="bf16")
    entries = [("dec", "depth"), ("depth.bias:0-0",), ("*",)]
    found = finals(network, tiny_frames(), update, lr=0.01)(entries)
    assert all(np.isfinite(losses).all() for losses in found.losses)
    assert found.losses[0].mean() < found.losses[1].mean()
    assert 1 not in found.level()
    exact = finals(network, tiny_frames(), UpdatePlan(), lr=0.01)(entries)
    assert exact.losses[0].tolist() != found.losses[0].tolist(), "as on the board, in bf16"
    assert exact.losses[0] == pytest.approx(found.losses[0], rel=0.05)
    assert finals(network, tiny_frames(), update, lr=0.01)(entries[:1]).losses[0].tolist() == (
        found.losses[0].tolist()
    )


def test_finalists_are_not_judged_on_what_they_have_learned_from(network: Network) -> None:
    frames = tiny_frames()
    still = finals(network, frames, UpdatePlan(), lr=0.0)([("dec",)]).losses[0]
    with open_bench(network, frames, lr=0.0) as bench:
        untuned = [bench_loss(bench, index) for index in range(len(bench.samples))]
    places = [int(np.argmin(np.abs(np.array(untuned) - loss))) for loss in still]
    assert [untuned[place] for place in places] == pytest.approx(still.tolist())
    assert min(places) > len(untuned) // 3


def test_a_finalist_that_diverges_is_not_level(network: Network) -> None:
    found = finals(network, tiny_frames(), UpdatePlan(), lr=1e9)([("*",), ("depth.bias:0-0",)])
    assert not np.isfinite(found.losses[0]).all()
    assert Finals(1, (found.losses[0], np.ones_like(found.losses[0]))).level() == [1]


def test_what_fails_in_one_of_many_stops_the_others() -> None:
    def work(item: int, stop: threading.Event) -> int:
        if item == 1:
            raise UserError("one fails")
        assert stop.wait(30)
        return item

    with pytest.raises(UserError, match="one fails"):
        side_by_side(work, range(os.cpu_count() or 1) if (os.cpu_count() or 1) > 1 else [1], "failing")


def bench_loss(bench: Bench, index: int) -> float:
    with bench.board() as board:
        return board.step(bench.samples[index])


def test_trials_learn_from_the_untuned_weights_and_put_them_back(network: Network) -> None:
    with open_bench(network, tiny_frames(), lr=0.01) as bench:
        indices = range(len(bench.samples))
        before = [bench_loss(bench, index) for index in indices]
        some, more = bench.trial(("dec:0-3",)), bench.trial(("dec", "depth"))
        for steps in (4, 12):
            for trial in (some, more):
                trial.advance(steps)
                assert len(trial.losses) == steps
        assert [bench_loss(bench, index) for index in indices] == before
        alone = bench.trial(("dec", "depth"))
        alone.advance(12)
        assert alone.losses == more.losses
        assert more.losses[0] == some.losses[0] == before[0]
        assert more.loss(12) < some.loss(12) < float(np.mean(before[6:12]))
        assert more.loss(4) == pytest.approx(np.mean(more.losses[2:4]))


def test_a_trial_that_diverges_is_the_worst_and_no_other_suffers(network: Network) -> None:
    with open_bench(network, tiny_frames(), lr=1e9) as bench:
        first, second = race(bench)([("*",), ("depth.bias:0-0",)])
        assert not np.isfinite(first.losses[-1])
        assert all(bench_loss(bench, 0) < 100 for _ in range(4))
    with open_bench(network, tiny_frames(), lr=0.01) as bench:
        first, second = race(bench)([("enc0.bias",), ("dec", "depth")])
        assert second.losses[-1] < first.losses[-1]


def test_time_is_a_limit_too(network: Network, search: Search) -> None:
    whole = search(FREE)
    found = search(Limits(FREE.ram, whole.cost.seconds * 0.7))
    plan = plan_network(network, BOARD, parse_update(found.update))
    assert found.cost.seconds == plan.seconds
    assert found.cost.seconds <= whole.cost.seconds * 0.7
    assert any(verdict.why.endswith("ms too long") for verdict in found.layers)


def test_when_nothing_fits_the_smallest_budget_is_named_and_works(search: Search) -> None:
    with pytest.raises(DoesNotFitError, match=r"the smallest, .* alone, needs .*, in the way are ") as caught:
        search(Limits(1000))
    smallest = int(str(caught.value).split("--ram ")[1].split()[0])
    assert search(Limits(smallest)).cost.ram == smallest
    with pytest.raises(DoesNotFitError):
        search(Limits(smallest - 1))


def test_when_no_step_is_fast_enough_the_fastest_is_named(search: Search) -> None:
    with pytest.raises(DoesNotFitError, match=r"no update takes 0 ms .* the fastest is estimated at \d+ ms"):
        search(Limits(FREE.ram, 1e-6))


def test_layers_that_do_not_lower_the_loss_are_not_chosen(network: Network) -> None:
    with open_bench(network, tiny_frames(), lr=0.0) as bench:
        still = contributions(bench)
    with pytest.raises(UserError, match="no layer lowers the loss"):
        choose_update(network, BOARD, still, UpdatePlan(), FREE)


def test_a_part_of_the_channels_counts_for_its_share_of_the_gradient(network: Network) -> None:
    gradients = {
        name: np.zeros(network.graph.constants[name].value.shape, np.float32)
        for name in ("dec.weight", "dec.bias")
    }
    gradients["dec.weight"][0, 0, 0, 3:9] = (1, 1, 1, 2, 3, 3)
    gradients["dec.bias"][0] = 3
    options = layer_options(network, {"dec": Contribution(gradients, 0.34)})["dec"]
    assert [(option.pattern, option.gain) for option in options] == [
        ("dec.bias", pytest.approx(0.09)),
        ("dec:7-8", pytest.approx(0.18)),
        ("dec:6-8", pytest.approx(0.22)),
        ("dec:3-8", pytest.approx(0.25)),
        ("dec", pytest.approx(0.34)),
    ]


def test_a_board_without_a_clock_has_no_time() -> None:
    native = load_board("native")
    with pytest.raises(UserError, match="--time needs a board whose clock is known, but native has none"):
        Limits.of(native, None, 0.4)
    assert Limits.of(BOARD, 1 << 40, 0.4) == Limits(BOARD.main_ram.bytes - BOARD.stack_bytes, 0.4)
    assert Limits.of(BOARD, 5, None) == Limits(5)


def test_layers_of_an_integer_network_thaw_and_compete(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    random = np.random.default_rng(5)

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self._left = [{"image": random.random((1, 3, SIZE, SIZE), np.float32)} for _ in range(4)]

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return self._left.pop() if self._left else None

    path = tmp_path / "integers.onnx"
    quantization.quantize_static(write_tiny(tmp_path / "tiny.onnx"), path, Images(), per_channel=True)
    path.with_suffix(".task.toml").write_text(format_task(tiny_task()))
    integers = load_network(path)
    assert not any(op.kind == "conv2d" for op in integers.graph.ops)
    low, high = ram_of(integers, "depth.bias"), ram_of(integers, "dec,depth")
    limits = Limits((low + high) // 2)
    found = search_update(integers, BOARD, tiny_frames(), UpdatePlan(), limits, lr=0.01)
    # Above enc0 stands a table, through which no gradient passes.
    assert [verdict.layer for verdict in found.layers] == LAYERS[1:]
    assert found.cost.ram == ram_of(integers, found.update, limits.ram) <= limits.ram
    assert all(np.isfinite(result.loss) for result in found.tried)
    assert found.tried[0].steps == len(tiny_frames()) * 4 // 5
