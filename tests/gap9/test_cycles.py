"""The model of GAP9's cycles and energy: as good on published tables as is said, and sound in itself."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from fieldtune.errors import FieldtuneError
from firmware_gen.cluster import autotiler, energy
from firmware_gen.cluster.cycles import (
    CORES,
    KERNELS,
    Kernel,
    Transfer,
    Work,
    board_excess,
    dma_cycles,
    dma_rates,
    estimate_cycles,
    instruction_cycles,
    instruction_doubt,
    milliseconds,
)
from firmware_gen.cluster.estimate import Estimate
from firmware_gen.cluster.fit import fit, left_out, relative_errors, worst
from firmware_gen.cluster.published import published

ROOT = Path(__file__).parents[2]
TILED = Work(
    "conv_i8",
    macs=2_359_296,
    outputs=16_384,
    tiles=4,
    once=Transfer(2_560, 2),
    read=Transfer(16_384, 4),
    written=Transfer(16_384, 4),
    gathered=147_456,
    forks=4,
)


def cycles(**changes: object) -> float:
    return estimate_cycles(dataclasses.replace(TILED, **changes)).value  # type: ignore[arg-type]


# What is published, and how well the model says it unseen


def test_the_published_layers_are_those_of_resnet8() -> None:
    tables = published()
    layers = (*tables.convolutions, *tables.additions, *tables.other_layers)
    assert sum(layer.cycles for layer in layers) == tables.total
    assert sum(layer.macs for layer in tables.convolutions) == 12_501_632  # MLPerf Tiny's reference network


def test_dma_takes_what_was_measured() -> None:
    tables = published()
    for size, measured in (*tables.dma_read, *tables.dma_write):
        assert dma_cycles(Transfer(size, 1)) == pytest.approx(measured, rel=0.05)
    command, byte = dma_rates()
    assert command == pytest.approx(46, rel=0.05)
    assert byte == pytest.approx(1 / 8, rel=0.05)


def test_the_total_of_resnet8_in_software_is_within_a_fifth_each_layer_unseen() -> None:
    held = autotiler.held_out()
    said = sum(value for _, _, value in held)
    assert len(held) == 15
    assert said == pytest.approx(published().total, rel=0.2)


def test_a_layer_of_resnet8_in_software_is_within_a_third_unseen() -> None:
    tables = published()
    fitted = len(tables.convolutions) + len(tables.additions)
    held = autotiler.held_out()[:fitted]
    errors = relative_errors([value for *_, value in held], [count for _, count, _ in held])
    assert worst(errors) < 1 / 3
    assert sum(map(abs, errors)) / len(errors) < 0.12


def test_energies_of_mlperf_are_within_a_fifth_unseen() -> None:
    groups = (None, lambda run: run.network, lambda run: run.volts)
    for group in groups:
        errors = energy.ne16_errors(group)
        assert len(errors) == 8
        assert worst(errors) < 0.2


def test_a_capacitance_that_does_not_see_the_work_is_off_by_a_third() -> None:
    """So leaving out is a test that can fail."""
    assert worst(energy.ne16_errors(lambda run: run.network, lambda rate: (1.0,))) > 0.3
    assert worst(energy.ne16_errors(lambda run: run.network, lambda rate: (1.0, rate))) > 0.3


def test_measured_power_of_software_is_within_a_fifth_unseen() -> None:
    assert worst(energy.cores_errors()) < 0.2


def test_measured_power_of_software_lies_within_the_bounds() -> None:
    """At any rate that software reaches; the sources do not tell it."""
    for run in published().power_runs:
        for rate in (1, 6, 12):
            found = energy.capacitance(rate)
            assert found.low <= energy.power_capacitance(run) <= found.high


def test_products_that_were_measured_lie_within_the_bounds() -> None:
    for product in published().products:
        kernel = Kernel(
            product.arithmetic, product.mac_instructions, product.output_instructions, 0.0, "counted"
        )
        found = estimate_cycles(Work(kernel, product.macs, product.outputs))
        assert found.low <= product.mean_cycles <= found.high
        assert found.value == pytest.approx(product.mean_cycles, rel=0.15)


def test_cores_share_the_work_as_they_did_in_gvsoc() -> None:
    rates = dict(published().core_rates)
    alone = cycles(cores=1, tiles=1, forks=0, once=Transfer(), read=Transfer(), written=Transfer())
    for count, rate in rates.items():
        shared = cycles(cores=count, tiles=1, forks=0, once=Transfer(), read=Transfer(), written=Transfer())
        assert alone / shared == pytest.approx(rate / rates[1], rel=0.01)


def test_no_published_network_is_faster_than_the_inner_loop_alone() -> None:
    for network in published().networks:
        loop = network.macs * KERNELS["conv_i8"].mac * instruction_cycles("integer") / CORES
        assert loop < network.cycles


# Soundness


@pytest.mark.parametrize("count", range(1, CORES))
def test_another_core_never_makes_it_slower(count: int) -> None:
    for kernel in KERNELS:
        assert cycles(kernel=kernel, cores=count + 1) <= cycles(kernel=kernel, cores=count)


@pytest.mark.parametrize("tiles", [1, 2, 3, 8])
@pytest.mark.parametrize("which", ["once", "read", "written"])
def test_more_bytes_or_commands_are_never_faster(which: str, tiles: int) -> None:
    for low, high in ((Transfer(100, 8), Transfer(50_000, 8)), (Transfer(9_000, 8), Transfer(9_000, 80))):
        assert cycles(tiles=tiles, **{which: low}) <= cycles(tiles=tiles, **{which: high})
    assert cycles(tiles=tiles, **{which: Transfer(100, 8)}) < cycles(
        tiles=tiles, **{which: Transfer(10**7, 8)}
    )


@pytest.mark.parametrize(
    "more",
    [
        {"macs": TILED.macs + 10_000},
        {"outputs": TILED.outputs + 1_000},
        {"gathered": TILED.gathered + 1_000},
        {"forks": TILED.forks + 1},
        {"barriers": 1},
        {"balance": 1.2},
        {"alone": 1_000},
        {"prepared": 1_000.0},
        {"waits": 1_000},
        {"in_l2": True},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_work_takes_longer(more: dict[str, object]) -> None:
    assert cycles(**more) > cycles()


def test_dma_hides_behind_the_cores_but_for_the_first_tile_and_the_last() -> None:
    quiet = cycles(read=Transfer(), written=Transfer())
    moved = dma_cycles(TILED.read) + dma_cycles(TILED.written)
    assert cycles() == pytest.approx(quiet + moved / TILED.tiles)


def test_where_the_dma_is_slower_the_cores_hide_behind_it() -> None:
    tiny = dataclasses.replace(TILED, macs=0, outputs=0, gathered=0, forks=0, once=Transfer())
    moved = dma_cycles(tiny.read) + dma_cycles(tiny.written)
    assert estimate_cycles(tiny).value == pytest.approx(moved)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bounds_enclose_the_value(kernel: str) -> None:
    for work in (TILED, dataclasses.replace(TILED, tiles=1, in_l2=True, barriers=3)):
        found = estimate_cycles(dataclasses.replace(work, kernel=kernel))
        assert 0 < found.low < found.value < found.high
        assert found.high / found.value >= board_excess()


def test_more_is_said_of_a_kernel_whose_instructions_are_known() -> None:
    guess = KERNELS["conv_i8"]
    counted = dataclasses.replace(guess, doubt=0.0)
    wide, narrow = (
        estimate_cycles(dataclasses.replace(TILED, kernel=each, forks=0)) for each in (guess, counted)
    )
    assert wide.value == narrow.value
    assert wide.low < narrow.low
    assert narrow.high < wide.high
    assert narrow.high / narrow.value < (1 + instruction_doubt()) * board_excess()


# What goes wrong, and how it is printed


def test_an_unknown_kernel_class_is_named_with_those_that_there_are() -> None:
    with pytest.raises(FieldtuneError, match=r"no kernel class 'conv_i9' \(did you mean conv_i8\?\).*add_i8"):
        cycles(kernel="conv_i9")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cores": 9}, "1 to 8 cores"),
        ({"cores": 0}, "1 to 8 cores"),
        ({"tiles": 0}, "1 tile or more"),
        ({"balance": 0.5}, "0.5"),
    ],
)
def test_work_that_cannot_be_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(FieldtuneError, match=says):
        cycles(**changes)


def test_an_unknown_operating_point_is_refused() -> None:
    with pytest.raises(FieldtuneError, match=r"'1.0V'.*0\.65V, 0\.80V"):
        energy.find_point("1.0V")


def test_an_estimate_says_that_it_is_one_and_of_what() -> None:
    found = estimate_cycles(TILED)
    point = energy.find_point("0.80V")
    took = milliseconds(found, point.hertz)
    used = energy.estimate_microjoules(found, TILED.macs, point)
    assert took.value == pytest.approx(found.value / 370e3)
    assert used.low < used.value < used.high
    # 20 to 95 mW is what others report of GAP9 at work.
    assert 20 < used.value / took.value < 95
    for each, unit in ((found, "cycles"), (took, "ms"), (used, "µJ")):
        assert unit in str(each)
        assert "estimate: " in str(each)
        assert "nothing measured on a GAP9" in str(each)
    assert "0.80 V, 370 MHz" in str(used)


def test_estimates_add_up_with_their_bounds() -> None:
    one, two = Estimate(2e6, 1e6, 4e6, "cycles", "x"), Estimate(1.0, 1.0, 2.0, "cycles", "x")
    assert one + two == Estimate(2_000_001.0, 1_000_001.0, 4_000_002.0, "cycles", "x")
    assert str(dataclasses.replace(one, source="y") + two) == "2 M cycles (1 M – 4 M; estimate: y; x)"
    with pytest.raises(ValueError, match="cycles and ms"):
        one + milliseconds(one, 370e6)


# Least squares


def test_a_fit_finds_what_made_the_numbers() -> None:
    rows = [(1.0, 10.0), (2.0, 3.0), (5.0, 5.0), (0.0, 7.0)]
    assert fit(rows, [3 * a + 0.5 * b for a, b in rows]) == pytest.approx([3, 0.5])
    said = left_out(rows, lambda row: row, lambda row: 3 * row[0] + 0.5 * row[1])
    assert said == pytest.approx([8, 7.5, 17.5, 3.5])


def test_a_fit_has_no_negative_coefficient() -> None:
    found = fit([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)], [3.0, 2.0, 1.0])
    assert found[1] == 0
    assert found[0] > 0


def test_what_is_left_out_is_not_seen() -> None:
    """A row that fits nothing else is missed by all of it, and its group with it."""
    rows = [(1.0, 2.0, "a"), (1.0, 2.0, "a"), (1.0, 50.0, "b"), (1.0, 50.0, "b")]
    features, target = (lambda row: (row[0],)), (lambda row: row[1])
    assert left_out(rows, features, target, lambda row: row[2]) == pytest.approx([50, 50, 2, 2])


def test_the_page_says_what_the_model_says() -> None:
    page = (ROOT / "docs" / "gap9.md").read_text(encoding="utf-8")
    held = autotiler.held_out()
    said = [f"{value:,.0f}" for *_, value in held[: len(published().convolutions)]]
    said.append(f"**{sum(value for *_, value in held):,.0f}**")
    said.append(f"{autotiler.other_kernel_cycles():,.0f}")
    said += [f"{instruction_cycles(kind):.3f} cycles an instruction" for kind in ("integer", "float")]
    constant, slope = energy.ne16_rates()
    said.append(f"C = {constant:.1f} + {slope:.1f} log(1 + MAC/cycle) pF")
    said.append(f"C = {energy.cores_capacitance():.1f} pF")
    assert [number for number in said if number not in page] == []


def test_the_benchmark_prints_the_same_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("gap9_model")
    printed = []
    for _ in range(2):
        benchmark.main()
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "total: published 2,066,826" in printed[0]
