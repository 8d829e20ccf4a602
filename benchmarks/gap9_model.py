"""How good the model of GAP9's cycles and energy is: what it is fitted on, and how far off it is elsewhere.

    python benchmarks/gap9_model.py

Everything is computed from firmware_gen/cluster/published.toml. "Unseen" is what a fit on the other rows says
of a row. No number here was measured on a GAP9 of ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from firmware_gen.cluster import autotiler, energy
from firmware_gen.cluster.cycles import (
    BARRIER,
    CORES,
    FORK,
    KERNELS,
    L2_LOAD,
    Transfer,
    Work,
    board_excess,
    dma_cycles,
    dma_rates,
    estimate_cycles,
    instruction_cycles,
    instruction_doubt,
    instruction_errors,
    milliseconds,
    products_of,
)
from firmware_gen.cluster.fit import left_out, relative_errors, worst
from firmware_gen.cluster.published import (
    Arithmetic,
    Convolution,
    EnergyRun,
    Network,
    Published,
    published,
)

ARITHMETICS: tuple[Arithmetic, ...] = ("integer", "float")
# What the capacitance may depend on: multiply-accumulates a cycle, in some form.
FORMS: dict[str, Callable[[float], tuple[float, ...]]] = {
    "a": lambda u: (1.0,),
    "a + b u": lambda u: (1.0, u),
    "a + b sqrt(u)": lambda u: (1.0, math.sqrt(u)),
    "a + b log(1 + u), taken": energy.shape,
}


def heading(title: str, source: str) -> None:
    """Print a table's title and where its numbers come from."""
    print(f"\n{title}\n  [{source}]")


def summary(errors: Sequence[float]) -> str:
    """Return mean and worst error, without signs."""
    return f"mean {sum(map(abs, errors)) / len(errors):.1%}, worst {worst(errors):.1%}"


def dma_table(tables: Published) -> None:
    """Print the fit of the DMA."""
    command, byte = dma_rates()
    heading(f"DMA: {command:.1f} cycles a command + {byte:.4f} a byte", tables.sources["dma"])
    for direction, transfers in (
        ("L2 to L1, fitted", tables.dma_read),
        ("L1 to L2, unseen", tables.dma_write),
    ):
        for size, cycles in transfers:
            said = dma_cycles(Transfer(size, 1))
            print(
                f"  {direction}  {size:>6} B  measured {cycles:>6}  model {said:>7.0f}  "
                f"{said / cycles - 1:+.1%}"
            )


def product_table(tables: Published) -> None:
    """Print cycles an instruction, and each kernel when it is left out."""
    heading("Cycles an instruction: matrix products, 8 cores", tables.sources["products"])
    for arithmetic in ARITHMETICS:
        errors = instruction_errors(arithmetic)
        for product, error in zip(products_of(arithmetic), errors, strict=True):
            known = "counted" if product.counted else "worked out"
            each = CORES * product.mean_cycles / product.instructions()
            print(
                f"  {product.name:<34} {product.macs / product.mean_cycles:6.2f} MAC/cycle  "
                f"{product.mac_instructions:6.4f} instructions a MAC ({known})  "
                f"{each:.3f} cycles each  unseen {error:+.1%}"
            )
        print(
            f"  {arithmetic}: {instruction_cycles(arithmetic):.3f} cycles an instruction; {summary(errors)}"
        )
    print(f"  bounds of an estimate: {instruction_doubt():.1%} either way, beside the kernel's own doubt")
    print("  if an output of the integer products took no instructions, or twice as many as assumed:")
    for each in (0, 24):
        rows = products_of("integer")
        found = [CORES * row.mean_cycles / row.instructions(each) for row in rows]
        print(f"    {each:>2} instructions an output: {min(found):.3f} to {max(found):.3f} cycles each")


def core_table(tables: Published) -> None:
    """Print how one product scales with cores; only 8 cores are fitted on."""
    heading("Cores: pulp_nn_matmul, as a share of what 8 cores make", tables.sources["cores"])
    whole = dict(tables.core_rates)[CORES]
    for cores, rate in tables.core_rates:
        said = whole * cores / CORES
        print(f"  {cores} cores  measured {rate:.2f} MAC/cycle  model {said:.2f}  {said / rate - 1:+.1%}")


def peak_table(tables: Published) -> None:
    """Print what the kernels would make at most beside the best that others report."""
    heading("Kernels' inner loops beside the best that is published", tables.sources["peaks"])
    for peak in tables.peaks:
        kernel = KERNELS[peak.kernel]
        said = CORES / (kernel.mac * instruction_cycles(kernel.arithmetic))
        print(
            f"  {peak.name:<34} {peak.mac_per_cycle:5.2f} MAC/cycle  ours, model {said:5.2f}  "
            f"{said / peak.mac_per_cycle - 1:+.0%}"
        )
    ratio = KERNELS["conv_f32"].mac / KERNELS["conv_f16"].mac
    print(
        f"  fp16 over fp32: at most {tables.fp16_over_fp32} published, {ratio:.2f} by the model's inner loops"
    )
    for step in tables.training_steps:
        print(f"  whole training step in fp16, {step.name}: {step.mac_per_cycle} MAC/cycle published")


def resnet_table(tables: Published) -> None:
    """Print AutoTiler's layers unseen, and what ours would take by the model."""
    heading("ResNet8 in int8 by AutoTiler, each layer and its like unseen", tables.sources["autotiler"])
    rates = zip(("MAC", "output", "strided output", "weight"), autotiler.convolution_rates(), strict=True)
    print("  fitted cycles:", ", ".join(f"{rate:.3f} a {what}" for what, rate in rates))
    layer, value = autotiler.addition_rates()
    print(f"  an addition: {layer:.0f} + {value:.3f} a value; pooling and softmax taken for additions")
    held = autotiler.held_out()
    for name, cycles, said in held:
        print(f"  {name:<22} published {cycles:>8,}  model {said:>9,.0f}  {said / cycles - 1:+.0%}")
    fitted = len(tables.convolutions) + len(tables.additions)
    errors = relative_errors([said for _, _, said in held], [cycles for _, cycles, _ in held])
    print(f"  layers: {summary(errors[:fitted])}; those in no fit: {summary(errors[fitted:])}")
    said_total = sum(said for _, _, said in held)
    print(
        f"  total: published {tables.total:,}  model {said_total:,.0f}  {said_total / tables.total - 1:+.1%}"
    )
    other, said = tables.other_kernel, autotiler.other_kernel_cycles()
    print(
        f"  another kernel, {other.name}: published {other.cycles:,}  model {said:,.0f}  "
        f"{said / other.cycles - 1:+.0%}: not described by these rates"
    )


def our_work(layer: Convolution) -> Work:
    """Return the layer as our kernels would make it, in four tiles of rows where it has rows."""
    kind = "linear_i8" if layer.size == 1 else "pointwise_i8" if layer.kernel == 1 else "conv_i8"
    tiles = min(4, layer.size)
    window = layer.kernel**2 * layer.channels_in if layer.kernel > 1 else 0
    return Work(
        kind,
        layer.macs,
        layer.outputs,
        tiles,
        once=Transfer(layer.weights + 12 * layer.channels_out, 3),
        read=Transfer((layer.size * layer.stride) ** 2 * layer.channels_in, tiles),
        written=Transfer(layer.outputs, tiles),
        gathered=layer.size**2 * window,
        forks=tiles,
    )


def our_table(tables: Published) -> None:
    """Print what our kernels would take for the same layers: nothing published can check it."""
    heading("The same convolutions by our kernels: estimates that nothing checks", "this model")
    estimates = [estimate_cycles(our_work(layer)) for layer in tables.convolutions]
    for layer, each in zip(tables.convolutions, estimates, strict=True):
        print(
            f"  {layer.name:<22} AutoTiler {layer.cycles:>8,}  ours {each.value:>9,.0f} "
            f"({each.low:,.0f} – {each.high:,.0f})"
        )
    total = sum(estimates[1:], estimates[0])
    theirs = sum(layer.cycles for layer in tables.convolutions)
    macs = sum(layer.macs for layer in tables.convolutions)
    print(f"  together: AutoTiler {theirs:,}, ours {total}")
    print(f"  that is {macs / total.value:.1f} MAC/cycle ({macs / total.high:.1f} – {macs / total.low:.1f})")
    for point in energy.POINTS.values():
        took, used = milliseconds(total, point.hertz), energy.estimate_microjoules(total, macs, point)
        print(
            f"  {point}: {took.value:.2f} ms ({took.low:.2f} – {took.high:.2f}), "
            f"{used.value:.0f} µJ ({used.low:.0f} – {used.high:.0f}): estimates"
        )


def network_table(tables: Published) -> None:
    """Print whole networks of another generator: cycles for each and for a multiply-accumulate."""
    heading("Whole int8 networks by ARES, each unseen: a network + a MAC", tables.sources["ares"])
    rows = tables.networks
    said = left_out(rows, lambda row: (1, row.macs), cycles_of)
    errors = relative_errors(said, [row.cycles for row in rows])
    for row, value, error in zip(rows, said, errors, strict=True):
        least = row.macs * KERNELS["conv_i8"].mac * instruction_cycles("integer") / CORES
        print(
            f"  {row.name:<16} published {row.cycles:>10,}  {row.macs / row.cycles:5.2f} MAC/cycle  "
            f"model {value:>12,.0f}  {error:+.0%}  our inner loop alone {least:>10,.0f}"
        )
    print(f"  {summary(errors)}: a network's time is not told by its multiply-accumulates")


def cycles_of(network: Network) -> float:
    """Return the published cycles."""
    return network.cycles


def board_table(tables: Published) -> None:
    """Print how much longer a board took than the vendor's simulator."""
    heading("The vendor's simulator against its board", tables.sources["board"])
    for run in tables.simulator_runs:
        print(
            f"  {run.name:<10} simulated {run.simulated:,}  board {run.board:,}  "
            f"{run.board / run.simulated - 1:+.1%}"
        )
    print(f"  an estimate's upper bound is {board_excess() - 1:.1%} higher for it")


def energy_table(tables: Published) -> None:
    """Print MLPerf's energies, unseen in three ways, and other forms of the fit."""
    constant, slope = energy.ne16_rates()
    heading(
        f"Energy with NE16: C = {constant:.1f} + {slope:.1f} log(1 + MAC/cycle) pF, E = C V² cycles",
        tables.sources["mlperf"],
    )
    ways = (energy.ne16_errors(), energy.ne16_errors(network_of), energy.ne16_errors(volts_of))
    for run, alone, network, volts in zip(tables.energy_runs, *ways, strict=True):
        print(
            f"  {run.network:<4} {run.volts:.2f} V {run.mhz:.0f} MHz  {run.mac_per_cycle:5.1f} MAC/cycle  "
            f"{run.microjoules / run.cycles * 1e6:6.1f} pJ/cycle  C {energy.run_capacitance(run):5.1f} pF  "
            f"unseen: run {alone:+.1%}, network {network:+.1%}, voltage {volts:+.1%}"
        )
    for what, errors in zip(("run", "network", "voltage"), ways, strict=True):
        print(f"  {what} left out: {summary(errors)}")
    print("  worst error by form of C (run / network / voltage left out):")
    for name, form in FORMS.items():
        found = [worst(energy.ne16_errors(group, form)) for group in (None, network_of, volts_of)]
        print(f"    {name:<24} {found[0]:6.1%} {found[1]:6.1%} {found[2]:6.1%}")


def power_table(tables: Published) -> None:
    """Print measured power of software, unseen, and what the fit on NE16 says of it."""
    heading(f"Energy of the cores: C = {energy.cores_capacitance():.1f} pF", tables.sources["software_power"])
    for run, error in zip(tables.power_runs, energy.cores_errors(), strict=True):
        note = "; operating point inferred" if run.inferred else ""
        print(
            f"  {run.name:<22} {run.milliwatts:5.1f} mW  C {energy.power_capacitance(run):5.1f} pF  "
            f"unseen {error:+.1%}  [{run.source}{note}]"
        )
    for rate in (1.0, 3.0, 6.0, 12.0):
        found = energy.capacitance(rate)
        shares = ", ".join(
            f"{found.value * point.volts**2:.0f} ({found.low * point.volts**2:.0f} – "
            f"{found.high * point.volts**2:.0f}) pJ/cycle at {point}"
            for point in energy.POINTS.values()
        )
        print(f"  software at {rate:4.1f} MAC/cycle: {shares}")


def network_of(run: EnergyRun) -> str:
    """Return the group of a network's two runs."""
    return run.network


def volts_of(run: EnergyRun) -> float:
    """Return the group of the runs at one voltage."""
    return run.volts


def assumed_table() -> None:
    """Print what nobody has measured."""
    heading("Assumed, in cycles (at least – at most)", "no source; DORY's model for loads from L2")
    for name, bounds in (("fork and join", FORK), ("barrier", BARRIER), ("load from L2", L2_LOAD)):
        print(f"  {name:<14} {bounds.value:g} ({bounds.low:g} – {bounds.high:g})")
    print("  L3: not known; an estimate of a layer that reads from it needs the bytes a cycle")


def main() -> None:
    """Print all tables."""
    tables = published()
    for table in (dma_table, product_table, core_table, peak_table, resnet_table, our_table, network_table):
        table(tables)
    for table in (board_table, energy_table, power_table):
        table(tables)
    assumed_table()


if __name__ == "__main__":
    main()
