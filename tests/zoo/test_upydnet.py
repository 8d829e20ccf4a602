from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fieldtune.errors import ModelError
from zoo.frames import open_frames
from zoo.prepare import network_input

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")
from zoo.networks import upydnet  # noqa: E402

CHECKPOINT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "upydnet_tartanair.pth"
needs_checkpoint = pytest.mark.skipif(
    not CHECKPOINT.is_file(), reason="needs ../shared/data/upydnet_tartanair.pth"
)


def test_parameters_are_the_published_107625() -> None:
    assert sum(p.numel() for p in upydnet.UPydNet().parameters()) == 107_625


def test_a_forward_pass_takes_the_published_79_76_million_macs() -> None:
    macs = 0

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal macs
        weight = layer.weight
        pixels = inputs[0] if isinstance(layer, torch.nn.ConvTranspose2d) else output
        macs += weight.numel() * pixels[0, 0].numel()

    network = upydnet.UPydNet()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    network(torch.zeros(upydnet.INPUT_SHAPE))
    assert round(macs / 1e6, 2) == 79.76


@needs_checkpoint
@pytest.mark.parametrize("tconv", ["tconv.", ""])
def test_both_spellings_of_the_upsamplers_load(tmp_path: Path, tconv: str) -> None:
    state = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
    renamed = {key.replace("tconv.", tconv): value for key, value in state.items()}
    torch.save(renamed, tmp_path / "spelling.pth")
    loaded = upydnet.load_checkpoint(tmp_path / "spelling.pth").state_dict()
    assert set(loaded) == set(upydnet.UPydNet().state_dict())
    for key, value in state.items():
        assert torch.equal(loaded[key], value)


@needs_checkpoint
def test_equals_the_reference_network_on_real_frames(room_npz: Path, reference: ModuleType) -> None:
    frames = open_frames(room_npz)
    images = np.stack([network_input(frames[k], 48, 48) for k in (0, 100, 349)])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        ours = upydnet.load_checkpoint(CHECKPOINT)(x)
        theirs = reference.load(CHECKPOINT)(x)
    assert ours.max() > 1
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def _state() -> dict[str, torch.Tensor]:
    return upydnet.UPydNet().state_dict()


def test_a_missing_parameter_is_named(tmp_path: Path) -> None:
    state = _state()
    del state["decoder1.conv2.bias"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"lacks .*decoder1\.conv2\.bias"):
        upydnet.load_checkpoint(tmp_path / "x.pth")


def test_a_foreign_parameter_is_named(tmp_path: Path) -> None:
    torch.save(_state() | {"head.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"holds head\.weight"):
        upydnet.load_checkpoint(tmp_path / "x.pth")


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    torch.save(_state() | {"ups0.weight": torch.zeros(32, 16, 2, 2)}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"ups0\.tconv\.weight has shape \(32, 16, 2, 2\)"):
        upydnet.load_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ModelError, match="is no PyTorch checkpoint"):
        upydnet.load_checkpoint(tmp_path / "x.pth")


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "x.pth")
    with pytest.raises(ModelError, match="holds no state_dict"):
        upydnet.load_checkpoint(tmp_path / "x.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*absent\.pth"):
        upydnet.load_checkpoint(tmp_path / "absent.pth")
