"""Optimizers on the board against torch.optim over several steps."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fleet import Fleet
from proof import error, hwc
from references import Array
from update_rules import Rule, network, predict, round_gradients, round_state, samples

from firmware_gen.bf16 import from_bf16
from firmware_gen.plan import Plan
from firmware_gen.update import UpdatePlan
from firmware_gen.weights import to_source

FLIPPED = 1e-3  # of a tensor: a gradient half-way between two bf16, 2^-8 apart, may go to the other one

RULES = (
    Rule(),
    Rule(weight_decay=0.1),
    Rule(momentum=0.9),
    Rule(momentum=0.9, weight_decay=0.1),
    Rule(kept=True),
    Rule(momentum=0.9, weight_decay=0.1, kept=True),
    Rule(clip_norm=0.3, kept=True),
    Rule(clip_norm=1e6, kept=True),
    Rule(clip_norm=0.3),
    Rule(clip_norm=0.3, momentum=0.5, weight_decay=0.1),
    Rule(clip_norm=0.3, momentum=0.5, weight_decay=0.1, kept=True),
    Rule(clip_norm=0.3, optimizer="adam"),
    Rule(accumulate=3, kept=True),
    Rule(momentum=0.5, weight_decay=0.1, clip_norm=0.3, accumulate=2, kept=True),
    Rule(optimizer="adam"),
    Rule(optimizer="adam", weight_decay=0.1),
    Rule(optimizer="adam", weight_decay=0.1, kept=True),
    Rule(optimizer="adam", beta1=0.5, beta2=0.9, eps=0.1),
    Rule(optimizer="adam", beta1=0.0, beta2=0.0, eps=0.1),
    Rule(optimizer="adam", clip_norm=0.3, accumulate=2, kept=True),
    Rule(optimizer="adamw", weight_decay=0.1),
    Rule(optimizer="adamw", weight_decay=0.1, kept=True),
    Rule(optimizer="adamw", weight_decay=0.1, clip_norm=0.3, accumulate=3, kept=True),
    Rule(momentum=0.9, weight_decay=0.1, state="bf16"),
    Rule(momentum=0.9, weight_decay=0.1, state="bf16", kept=True),
    Rule(clip_norm=0.3, state="bf16"),
    Rule(clip_norm=0.3, optimizer="adam", state="bf16"),
    Rule(optimizer="adam", state="bf16"),
    Rule(optimizer="adamw", weight_decay=0.1, state="bf16", accumulate=2, kept=True),
)
AT_ONCE = tuple(rule for rule in RULES if not rule.kept and dataclasses.replace(rule, kept=True) in RULES)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, dict[Rule, dict[str, Array]]]:
    """The weights after every rule's run, by name, in the board's layout."""
    folder, net = tmp_path_factory.mktemp("optimizer"), network()
    kinds = list(dict.fromkeys(rule.update() for rule in RULES))
    plans = [net.plan(folder, kind) for kind in kinds]
    fleet = Fleet(plans)
    asked: dict[Rule, dict[str, int]] = {}
    for rule in RULES:
        model = kinds.index(rule.update())
        fleet.reset(model)
        for image, target in samples():
            fleet.write(model, "input0", hwc(image))
            fleet.write(model, f"{net.outputs[0]}.label", hwc(target))
            fleet.write(model, f"{net.outputs[0]}.mask", np.ones((1, 1, 4)))
            fleet.step(model, rule.accumulate, **rule.hyper())
        asked[rule] = {name: fleet.read(model, name) for name in plans[model].graph.trained}
    values = fleet.run(fleet.build(folder))
    return plans[0], {rule: {name: values[k] for name, k in found.items()} for rule, found in asked.items()}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_weights_after_several_steps_equal_torch(
    rule: Rule, runs: tuple[Plan, dict[Rule, dict[str, Array]]]
) -> None:
    """The gradient of an update over k samples is the mean of the k gradients, clipped as one."""
    plan, found = runs
    start = {name: p.value.detach().clone() for name, p in network().parameters.items()}
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = rule.reference(weights.values())
    for count, (image, target) in enumerate(samples(), 1):
        output = predict(torch.tensor(image).double(), weights)
        (F.mse_loss(output, torch.tensor(target).double()) / rule.accumulate).backward()
        if count % rule.accumulate == 0:
            if rule.waits_in_bf16:
                round_gradients(weights.values())
            if rule.clip_norm > 0:
                torch.nn.utils.clip_grad_norm_(weights.values(), rule.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if rule.state == "bf16":
                round_state(optimizer)
    for name, weight in weights.items():
        constant = plan.graph.constants[name]
        ours = to_source(constant, found[rule][name].astype(np.float32)) - start[name].numpy()
        tolerance = FLIPPED if rule.waits_in_bf16 else 1e-4
        assert error(ours, (weight.detach() - start[name]).numpy()) < tolerance, name


@pytest.mark.parametrize("rule", AT_ONCE, ids=str)
def test_weights_updated_at_once_have_the_bits_of_kept_gradients(
    rule: Rule, runs: tuple[Plan, dict[Rule, dict[str, Array]]]
) -> None:
    at_once, kept = (runs[1][dataclasses.replace(rule, kept=kept)] for kept in (False, True))
    assert at_once.keys() == kept.keys()
    for name, values in at_once.items():
        assert values.tobytes() == kept[name].tobytes(), name


def test_gradients_that_wait_in_bf16_are_those_of_f32_rounded(tmp_path: Path) -> None:
    net = network()
    plans = [net.plan(tmp_path, UpdatePlan(("*",), clip_norm=True, state=state)) for state in ("f32", "bf16")]
    fleet, (image, target) = Fleet(plans), samples()[0]
    asked = []
    for model, plan in enumerate(plans):
        fleet.reset(model)
        fleet.write(model, "input0", hwc(image))
        fleet.write(model, f"{net.outputs[0]}.label", hwc(target))
        fleet.write(model, f"{net.outputs[0]}.mask", np.ones((1, 1, 4)))
        fleet.step(model)
        asked.append({name: fleet.read(model, f"gradient.{name}") for name in plan.graph.trained})
    values = fleet.run(fleet.build(tmp_path))
    for name, exact in asked[0].items():
        narrow = plans[1].graph.constants[name].value.ndim == 4
        expected, found = torch.tensor(values[exact]), values[asked[1][name]]
        if narrow:
            expected, found = expected.bfloat16().float(), from_bf16(found)
        assert np.array_equal(found, expected.numpy()), name
