"""Learning weights that are stored in bf16."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fleet import RUNTIME, Fleet, lanes_here
from learning_layers import random_layers
from numpy.typing import NDArray
from proof import hwc
from references import Array
from update_rules import Rule, network, predict, round_state, samples

from boards.building import LANGUAGE, SANITIZERS
from firmware_gen.bf16 import from_bf16, to_bf16
from firmware_gen.plan import Plan
from firmware_gen.update import Rounding, UpdatePlan, WeightType
from firmware_gen.weights import to_source

RULES = (
    Rule(weights="bf16"),
    Rule(weights="bf16", weight_decay=0.1, kept=True),
    Rule(weights="bf16", momentum=0.9),
    Rule(weights="bf16", momentum=0.9, state="bf16"),
    Rule(weights="bf16", clip_norm=0.3, accumulate=2, kept=True),
    Rule(weights="bf16", optimizer="adam", lr=0.01),
    Rule(weights="bf16", optimizer="adamw", lr=0.01, weight_decay=0.1, state="bf16", kept=True),
)
# Prints what each float that it reads becomes in 4096 updates.
DRAWS = """
#include "kernels/update.h"
#include <stdio.h>
int main(void) {
    uint32_t bits;
    while (fread(&bits, sizeof bits, 1, stdin) == 1)
        for (int32_t k = 0, generator = 0; k < 4096; k++) {
            uint16_t stored[3];
            ft_halves_store((ft_halves_t){stored, 1, ft_next_key(&generator)}, 2, ft_bits_to_float(bits));
            fwrite(stored + 2, sizeof *stored, 1, stdout);
        }
    return 0;
}
"""
HYPER = {"lr": 0.05, "momentum": 0.9}
KINDS: tuple[WeightType, ...] = ("f32", "bf16")


def in_floats(plan: Plan, name: str, values: Array) -> Array:
    """Return a learning constant as float32, in the order of the model file."""
    narrow = plan.graph.learned(name).dtype == "bf16"
    return to_source(plan.graph.constants[name], from_bf16(values) if narrow else values)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_an_update_is_that_of_torch_rounded_once(rule: Rule, tmp_path: Path) -> None:
    """Each step from the weights of the board: one that is rounded the other way would lead elsewhere."""
    plan = network().plan(tmp_path, rule.update())
    fleet = Fleet([plan])
    fleet.reset(0)
    names = plan.graph.trained
    asked = [{name: fleet.read(0, name) for name in names}]
    for image, target in samples():
        _write(fleet, 0, plan, [image], [target])
        fleet.step(0, rule.accumulate, **rule.hyper())
        asked.append({name: fleet.read(0, name) for name in names})
    values = fleet.run(fleet.build(tmp_path))
    found = [{name: in_floats(plan, name, values[number]) for name, number in one.items()} for one in asked]

    weights = {name: torch.tensor(value).double().requires_grad_() for name, value in found[0].items()}
    optimizer = rule.reference(weights.values())
    moved = 0
    for count, (image, target) in enumerate(samples(), 1):
        output = predict(torch.tensor(image).double(), weights)
        (F.mse_loss(output, torch.tensor(target).double()) / rule.accumulate).backward()
        if count % rule.accumulate == 0:
            if rule.clip_norm > 0:
                torch.nn.utils.clip_grad_norm_(weights.values(), rule.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        for name, weight in weights.items():
            exact, ours = weight.detach(), torch.tensor(found[count][name])
            if plan.graph.learned(name).dtype == "bf16":
                assert _equal_but_for_ties(ours, exact), f"{name} in step {count}"
                moved += int((found[count][name] != found[count - 1][name]).sum())
            else:
                assert torch.allclose(ours.double(), exact, rtol=1e-4, atol=1e-6), f"{name} in step {count}"
            with torch.no_grad():
                weight.copy_(ours.double())
        if rule.state == "bf16":
            round_state(optimizer)
    assert moved > 100


def _equal_but_for_ties(ours: torch.Tensor, exact: torch.Tensor) -> bool:
    """Tell whether `ours` are rounded as by torch; near the middle of two neighbours either will do."""
    below, above = ((exact * (1 + sign * 2e-6) + sign * 1e-8).bfloat16().float() for sign in (-1, 1))
    near, far = torch.minimum(below, above), torch.maximum(below, above)
    return bool(((ours >= near) & (ours <= far)).all()) and bool((below != above).sum() <= ours.numel() / 20)


def test_losses_and_gradients_have_the_bits_of_the_same_weights_in_f32(tmp_path: Path) -> None:
    """A weight is widened exactly, and kernels sum in the same order whatever part of it they see."""
    net = random_layers(seed=11)
    plans = [
        net.plan(tmp_path, UpdatePlan(("*",), keep_gradients=True, weights=kind), kind) for kind in KINDS
    ]
    graph = plans[1].graph
    fleet = Fleet(plans)
    asked = []
    for model, plan in enumerate(plans):
        fleet.reset(model)
        for name in graph.trained if model == 0 else ():
            fleet.write(0, name, graph.constants[name].value)
        _write(fleet, model, plan, list(net.inputs.values()), list(net.labels.values()))
        asked.append([fleet.step(model), *(fleet.read(model, f"gradient.{name}") for name in graph.trained)])
        asked[-1].append(fleet.intact(model))
    for lanes in lanes_here():
        values = fleet.run(fleet.build(tmp_path / lanes, lanes))
        for wide, narrow in zip(*asked, strict=True):
            assert values[wide].tobytes() == values[narrow].tobytes()
            assert np.abs(values[narrow]).max() > 0


def test_kept_gradients_update_as_those_that_are_applied_at_once(tmp_path: Path) -> None:
    net = random_layers(seed=12)
    kinds = [UpdatePlan(("*",), True, kept, "sgd", "bf16", "bf16", "nearest") for kept in (False, True)]
    plans = [net.plan(tmp_path, kind, f"net{k}") for k, kind in enumerate(kinds)]
    fleet = Fleet(plans)
    asked = []
    for model, plan in enumerate(plans):
        fleet.reset(model)
        for _ in range(2):
            _write(fleet, model, plan, list(net.inputs.values()), list(net.labels.values()))
            fleet.step(model, **HYPER)
        asked.append([fleet.read(model, name) for name in plan.graph.trained])
    values = fleet.run(fleet.build(tmp_path))
    for at_once, kept in zip(*asked, strict=True):
        assert values[at_once].tobytes() == values[kept].tobytes()


def test_draws_lead_to_both_neighbours_as_often_as_their_distance_says(tmp_path: Path) -> None:
    values = np.array([1.0, 1 + 2**-9, 1 + 2**-10, -1 - 2**-12, 3e-5, -7.123, 0.0, 1e-40], np.float32)
    bits = values.view(np.uint32)
    for value, share, found in zip(bits, (bits & 0xFFFF) / 65536, _drawn(values, tmp_path), strict=True):
        assert np.isin(found, [value >> 16, (value >> 16) + 1]).all()
        often = float((found != value >> 16).mean())
        assert abs(often - share) <= 4 * np.sqrt(share * (1 - share) / found.size)


def test_what_is_no_number_or_infinite_stays_so(tmp_path: Path) -> None:
    found = from_bf16(_drawn(np.array([np.nan, np.inf, -np.inf], np.float32), tmp_path))
    assert np.isnan(found[0]).all()
    assert (found[1] == np.inf).all()
    assert (found[2] == -np.inf).all()


def _drawn(values: NDArray[np.float32], folder: Path) -> NDArray[np.uint16]:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    (folder / "draws.c").write_text(DRAWS)
    command = [compiler, *LANGUAGE, *SANITIZERS, "-I", str(RUNTIME), "draws.c", "-o", "draws"]
    subprocess.run(command, cwd=folder, check=True)
    out = subprocess.run([folder / "draws"], input=values.tobytes(), capture_output=True, check=True).stdout
    return np.frombuffer(out, np.uint16).reshape(len(values), -1)


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_only_drawn_roundings_let_small_moves_count(rounding: Rounding, tmp_path: Path) -> None:
    """A hundred moves of some hundredths of a step: on average all of them, or none."""
    kinds = [UpdatePlan(("*",)), UpdatePlan(("*",), weights="bf16", rounding=rounding)]
    plans = [network().plan(tmp_path, kind, f"net{k}") for k, kind in enumerate(kinds)]
    image, target = samples()[0]
    fleet = Fleet(plans)
    asked = []
    for model, plan in enumerate(plans):
        fleet.reset(model)
        if model == 0:
            for name in plan.graph.trained:
                fleet.write(0, name, plans[1].graph.constants[name].value)
        before = fleet.read(model, "first.weight")
        for _ in range(100):
            _write(fleet, model, plan, [image], [target])
            fleet.step(model, lr=2e-5)
        asked.append((before, fleet.read(model, "first.weight")))
    values = fleet.run(fleet.build(tmp_path))
    exact, moved = (
        in_floats(plan, "first.weight", values[after]) - in_floats(plan, "first.weight", values[before])
        for plan, (before, after) in zip(plans, asked, strict=True)
    )
    along = float((moved * exact).sum() / (exact * exact).sum())
    assert abs(along - (rounding == "stochastic")) < 0.25


def test_weights_take_two_bytes_and_start_from_the_nearest_values(tmp_path: Path) -> None:
    wide, narrow = (network().plan(tmp_path, UpdatePlan(("*",), weights=kind)) for kind in KINDS)
    trained = narrow.graph.trained
    saved = 0
    for name in trained:
        before, after = (plan.graph.constants[name].value for plan in (wide, narrow))
        if before.ndim == 4:
            assert np.array_equal(to_bf16(before), to_bf16(after))
            assert np.array_equal(after, from_bf16(to_bf16(after)))
            saved += before.size // 2 * 4
        else:
            assert np.array_equal(before, after)
    assert wide.ram["weights"] - narrow.ram["weights"] == saved
    assert {entry["name"]: entry["dtype"] for entry in narrow.describe()["weights"]} == {
        name: "bf16" if name.endswith("weight") else "f32" for name in trained
    }
    assert wide.hash() != narrow.hash()


def _write(fleet: Fleet, model: int, plan: Plan, inputs: list[Array], labels: list[Array]) -> None:
    for name, value in zip(plan.graph.inputs, inputs, strict=True):
        fleet.write(model, name, hwc(value))
    for name, value in zip(plan.graph.labels, labels, strict=True):
        fleet.write(model, name, hwc(value))
    for name in plan.graph.masks:
        fleet.write(model, name, np.ones(plan.graph.shape(name)))
