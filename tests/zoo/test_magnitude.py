"""Magnitude pruning with rewinding: what is pruned stays pruned, what is left begins anew."""

from fractions import Fraction

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")
from torch import nn  # noqa: E402

from zoo.export import multitask_task  # noqa: E402
from zoo.networks.multitask import CHANNELS, MultiTaskNet  # noqa: E402
from zoo.scenes import render  # noqa: E402
from zoo.training.augment import Views  # noqa: E402
from zoo.training.balance import FixedWeights  # noqa: E402
from zoo.training.loop import Schedule, train  # noqa: E402
from zoo.training.magnitude import Masks  # noqa: E402
from zoo.training.pool import pool  # noqa: E402


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 2),
        nn.Flatten(),
        nn.Linear(36, 2),
    )


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters() if value.ndim > 1}


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, masks: Masks) -> None:
    optimizer.zero_grad()
    network(torch.randn(4, 3, 4, 4)).square().sum().backward()
    masks.hold_gradients()
    optimizer.step()
    masks.hold_weights()


def test_the_smallest_weights_of_the_whole_network_go() -> None:
    network = _network()
    before = _weights(network)
    sizes = torch.cat([value.abs().flatten() for value in before.values()])
    limit = sizes.sort().values[len(sizes) // 4]
    masks = Masks(network)
    masks.prune(0.25)
    for name, value in _weights(network).items():
        expected = torch.where(before[name].abs() < limit, 0.0, before[name])
        assert torch.equal(value, expected), name


def test_every_round_prunes_a_share_of_what_is_alive() -> None:
    network = _network()
    masks = Masks(network)
    assert masks.alive == masks.total == 8 * 3 * 9 + 8 * 4 * 4 + 72
    expected = masks.total
    for _ in range(4):
        with torch.no_grad():
            network[5].weight.flatten()[::3] = (
                0  # weights that are 0 by chance are alive, and the first to go
            )
        expected -= round(Fraction(1, 5) * expected)
        masks.prune(0.2)
        assert masks.alive == expected
        masks.rewind()
        assert sum(int(value.count_nonzero()) for value in _weights(network).values()) == masks.alive


def test_biases_and_normalizations_are_never_pruned() -> None:
    network = _network()
    Masks(network).prune(1.0)
    for name, value in network.named_parameters():
        assert value.any() == (value.ndim == 1 and name != "1.bias"), name


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_pruned_weights_stay_0_under_momentum_and_decay(kind: str) -> None:
    network = _network()
    masks = Masks(network)
    parameters = network.parameters()
    optimizer = (
        torch.optim.AdamW(parameters, 0.01, weight_decay=0.1)
        if kind == "adamw"
        else torch.optim.SGD(parameters, 0.01, momentum=0.9)
    )
    for _ in range(3):
        _step(network, optimizer, masks)
    masks.prune(0.5)
    dead = {name: value == 0 for name, value in _weights(network).items()}
    before = _weights(network)
    for _ in range(3):
        _step(network, optimizer, masks)
    for name, value in _weights(network).items():
        assert not value[dead[name]].any(), name
        assert not network.get_parameter(name).grad[dead[name]].any(), name
        assert (value != before[name])[~dead[name]].all(), name


def test_rewinding_gives_the_survivors_their_first_bits() -> None:
    network = _network()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    masks = Masks(network)
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    for _ in range(3):
        _step(network, optimizer, masks)
    masks.prune(0.3)
    dead = {name: value == 0 for name, value in _weights(network).items()}
    masks.rewind()
    for name, value in network.state_dict().items():
        expected = start[name].masked_fill(dead[name], 0) if name in dead else start[name]
        assert torch.equal(value, expected), name


def test_the_zoos_training_keeps_what_is_pruned() -> None:
    torch.set_num_threads(1)
    heads = tuple(CHANNELS)
    task = multitask_task(heads)
    frames = pool(render("room", 7, 28)[::7], task, 48)
    torch.manual_seed(0)
    network = MultiTaskNet(heads, 0.5)
    whole = {name: value.clone() for name, value in network.state_dict().items()}
    masks = Masks(network)
    masks.prune(0.4)
    dead = {name: value == 0 for name, value in _weights(network).items()}
    network.load_state_dict(whole)
    alike = FixedWeights(dict.fromkeys(heads, 1.0))
    train(network, task, frames, Schedule(2, 1e-3, batch=2), alike, 0, Views(task), masks)
    for name, value in _weights(network).items():
        assert not value[dead[name]].any(), name
        assert not network.get_parameter(name).grad[dead[name]].any(), name
    assert any((value != whole[name])[~dead[name]].any() for name, value in _weights(network).items())
    assert masks.alive == round(0.6 * masks.total)
