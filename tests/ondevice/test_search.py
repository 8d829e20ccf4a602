"""``--update auto`` on the tiny network."""

from collections.abc import Callable

import numpy as np
import pytest
from tiny import tiny_frames, write_tiny

from boards import load_board
from fieldtune.errors import DoesNotFitError, UserError
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.search import Found, choose_update, layer_options
from ondevice.search_contributions import Contribution, open_bench
from ondevice.search_costs import INSTRUCTIONS_PER_MAC, Limits

BOARD = load_board("mps2_an386")
LAYERS = ["enc0", "enc1", "up", "dec", "depth"]
FREE = Limits(1 << 30)
Search = Callable[..., Found]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("search") / "tiny.onnx"))


def ram_of(network: Network, update: str) -> int:
    return plan_network(network, BOARD, parse_update(update)).ram_bytes


@pytest.fixture(scope="module")
def measured(network: Network) -> dict[str, Contribution]:
    with open_bench(network, tiny_frames(), lr=0.01) as bench:
        return bench.contributions()


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
    assert found.cost.ram == ram_of(network, found.update) <= limits.ram
    left = [verdict for verdict in found.layers if verdict.gain < verdict.possible]
    assert left
    assert all(verdict.why.endswith("B too many") for verdict in left)
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
    planned = plan_network(network, BOARD, parse_update(found.update, momentum=True, keep_gradients=True))
    assert found.cost.ram == planned.ram_bytes <= limits.ram


def test_of_what_fits_the_run_together_decides(network: Network, measured: dict[str, Contribution]) -> None:
    asked = []

    def judge(patterns: tuple[str, ...]) -> float:
        asked.append(patterns)
        return float(len(patterns))

    found = choose_update(network, BOARD, measured, UpdatePlan(), FREE, judge=judge)
    assert sorted(asked, key=len) == [tuple(LAYERS[-count:]) for count in range(1, 6)]
    assert found.update == "depth"
    left = {verdict.why for verdict in found.layers if verdict.learns == "nothing"}
    assert left == {"would fit, but learning from depth up alone did better"}


def test_a_bench_puts_the_weights_back(network: Network) -> None:
    with open_bench(network, tiny_frames(), lr=0.01) as bench:
        before = bench.loss()
        some, more = bench.learned(("dec:0-3",)), bench.learned(("dec", "depth"))
        assert more < some < before
        assert bench.loss() == before


def test_time_is_a_limit_too(network: Network, search: Search) -> None:
    whole = search(FREE)
    found = search(Limits(FREE.ram, whole.cost.seconds * 0.7))
    plan = plan_network(network, BOARD, parse_update(found.update))
    macs = plan.macs("forward", "loss", "backward", "update")
    assert found.cost.seconds == pytest.approx(macs * INSTRUCTIONS_PER_MAC["dsp"] / 25e6)
    assert found.cost.seconds <= whole.cost.seconds * 0.7
    assert any(verdict.why.endswith("ms too long") for verdict in found.layers)


def test_when_nothing_fits_the_smallest_budget_is_named_and_works(search: Search) -> None:
    with pytest.raises(DoesNotFitError, match=r"the smallest, .* alone, needs .* with the peak at") as caught:
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
        still = bench.contributions()
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
