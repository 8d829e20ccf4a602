from pathlib import Path

import pytest

from fieldtune.errors import ModelError

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")
from torch import nn  # noqa: E402

from zoo.export import load_zoo  # noqa: E402
from zoo.networks import mcunet  # noqa: E402
from zoo.networks.folding import folded  # noqa: E402


def test_parameters_and_macs_are_the_published_ones() -> None:
    # mcunet's table: 0.64 M parameters with ImageNet's 1000 classes, 12.8 M multiply-accumulates at 96 x 96.
    network = mcunet.McuNet(1000)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 0.64
    assert round(_macs(network, 96) / 1e6, 1) == 12.8


def test_the_10_class_network_takes_22_million_macs_at_128() -> None:
    assert round(_macs(mcunet.McuNet(10), 128) / 1e6, 2) == 22.46


def _macs(network: mcunet.McuNet, side: int) -> int:
    macs = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal macs
        macs += layer.weight.numel() * output[0, 0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    network.eval()(torch.zeros(1, 3, side, side))
    return macs


def test_folding_changes_nothing_but_rounding() -> None:
    torch.manual_seed(1)
    network = mcunet.McuNet(7)
    images = torch.rand(2, 3, 64, 64)
    network.train()(images)
    with torch.no_grad():
        before = network.eval()(images)
        after = folded(network)(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert (before - after).abs().max() < 1e-4 * before.abs().max()


def test_the_same_seed_gives_the_same_network_of_any_width_and_classes() -> None:
    one, other = (mcunet.random_network(5, seed=3, side=64, width=0.5) for _ in range(2))
    assert one.classifier.out_features == 5
    assert one.blocks[13].project.out_channels == 80
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_checkpoint_brings_its_classes(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = mcunet.McuNet(4)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    loaded, task, shape = load_zoo("mcunet", tmp_path / "net.pth")
    assert (task.outputs[0].kind, shape) == ("class", (1, 3, 128, 128))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(loaded(image), network.eval()(image), atol=1e-5)


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"classifier.bias": torch.zeros(4)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="lacks MCUNet-5fps's parameter blocks"):
        mcunet.load_checkpoint(tmp_path / "net.pth")
