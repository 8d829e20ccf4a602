import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fieldtune.errors import ModelError, UserError
from zoo.export import UPYDNET_TASK, export_onnx, load_zoo
from zoo.task import InputSpec, OutputSpec, Task, find_task

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")
from zoo.networks.upydnet import INPUT_SHAPE, UPydNet  # noqa: E402


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[UPydNet, Path]:
    torch.manual_seed(3)
    network = UPydNet()
    path = tmp_path_factory.mktemp("export") / "net.onnx"
    export_onnx(network, UPYDNET_TASK, INPUT_SHAPE, path)
    return network, path


def test_onnx_runtime_gives_the_outputs_of_torch(exported: tuple[UPydNet, Path]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    network, path = exported
    image = np.random.default_rng(0).random(INPUT_SHAPE, np.float32)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (disparity,) = session.run(["disparity"], {"image": image})
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    assert expected.any()
    np.testing.assert_allclose(disparity, expected, rtol=1e-4, atol=1e-6)


def test_initializers_are_the_state_dict(exported: tuple[UPydNet, Path]) -> None:
    network, path = exported
    stored = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(path)).graph.initializer}
    state = network.state_dict()
    assert stored.keys() == state.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(array, state[name].numpy())


def test_a_node_is_named_after_its_layer(exported: tuple[UPydNet, Path]) -> None:
    for node in onnx.load(str(exported[1])).graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            layer = node.input[1].removesuffix(".weight")
            assert layer.replace(".", "/") in node.name


def test_the_task_travels_in_the_file(exported: tuple[UPydNet, Path]) -> None:
    assert find_task(exported[1]) == UPYDNET_TASK


def test_the_same_weights_give_the_same_bytes(exported: tuple[UPydNet, Path], tmp_path: Path) -> None:
    network, path = exported
    export_onnx(network, UPYDNET_TASK, INPUT_SHAPE, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_export_leaves_a_training_module_training(tmp_path: Path) -> None:
    network = UPydNet().train()
    export_onnx(network, UPYDNET_TASK, INPUT_SHAPE, tmp_path / "net.onnx")
    assert network.training


def test_a_task_with_too_few_outputs_is_refused(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x * 2

    task = Task((InputSpec("image", 1 / 255),), (OutputSpec("value", "value", "mse", "truth"),))
    with pytest.raises(ModelError, match="does not name the network's outputs"):
        export_onnx(Two(), task, (1, 3), tmp_path / "two.onnx")
    assert not list(tmp_path.iterdir())


def test_an_unknown_network_is_refused_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zoo:upydnet"):
        load_zoo("resnet", tmp_path / "x.pth")


def _export(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fieldtune", "export", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_turns_a_checkpoint_into_a_model(tmp_path: Path) -> None:
    torch.manual_seed(4)
    torch.save(UPydNet().state_dict(), tmp_path / "net.pth")
    done = _export("zoo:upydnet", "--weights", str(tmp_path / "net.pth"), "-o", str(tmp_path / "net.onnx"))
    assert done.returncode == 0, done.stderr
    assert find_task(tmp_path / "net.onnx") == UPYDNET_TASK


@pytest.mark.parametrize("network", ["zoo:upydnet", "upydnet", "zoo:other"])
def test_the_command_answers_bad_input_with_one_sentence_and_no_file(tmp_path: Path, network: str) -> None:
    (tmp_path / "net.pth").write_bytes(b"broken")
    done = _export(network, "--weights", str(tmp_path / "net.pth"), "-o", str(tmp_path / "net.onnx"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
