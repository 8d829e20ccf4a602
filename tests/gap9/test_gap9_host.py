"""Board gap9_host: whole firmware on the shim of pmsis gives the bits of `native`, clean in every build."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from cluster_boards import cluster_board
from tiny import write_tiny

import boards
from boards import Board, load_board
from boards.building import Sanitizer, Sign
from fieldtune.__main__ import main
from fieldtune.errors import BoardError, DoesNotFitError
from firmware_gen.plan import Plan
from firmware_gen.project import Network, load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.device import Device, Hyper
from ondevice.link import RefusedError
from ondevice.workbench import open_board

KEYWORDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "kws_ref_model.tflite"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def test_gap9_host_and_gap9_evk_describe_one_chip() -> None:
    evk, host = load_board("gap9_evk"), load_board("gap9_host")
    for name in ("clock_hz", "fpu", "isa", "stack_bytes", "rx_ring_bytes", "serial"):
        assert getattr(evk, name) == getattr(host, name)
    assert evk.cluster is not None
    assert evk.cluster.l3 is not None
    assert host.cluster is not None
    assert host.cluster.l3 is not None
    l3 = dataclasses.replace(host.cluster.l3, source=evk.cluster.l3.source)
    assert dataclasses.replace(host.cluster, source=evk.cluster.source, l3=l3) == evk.cluster
    assert [(r.kind, r.start, r.bytes) for r in evk.regions] == [
        (r.kind, r.start, r.bytes) for r in host.regions
    ]


def learned(
    plan: Plan, folder: Path, sanitize: Sanitizer | None = None, char: Sign | None = None
) -> list[bytes]:
    """Return losses, weights and an output after three steps."""
    write_project(plan, folder)
    firmware = boards.build(folder, plan.board, sanitize=sanitize or False, char=char)
    random, shape = np.random.default_rng(3), plan.graph.shape
    found = []
    with boards.start(firmware.elf, plan.board) as running, Device.open(running.url) as device:
        device.set_hyper(Hyper(lr=0.0625))
        for index in range(3):
            image = random.integers(0, 256, shape("image"), np.uint8)
            label = random.uniform(1, 4, shape("depth.label")).astype(np.float32)
            mask = (random.random(shape("depth.mask")) < 0.8).astype(np.uint8)
            device.put_sample({"image": image, "depth.label": label, "depth.mask": mask})
            found.append(np.array(device.step(index).losses, np.float32).tobytes())
        weights = device.read_role("weight")
        found += [weights[name].tobytes() for name in sorted(weights)]
        found.append(device.infer({"image": image})["depth"].tobytes())
        memory = device.memory()
        assert memory.arena_intact
        assert memory.stack_bytes == plan.board.stack_bytes
    return found


@pytest.fixture(scope="module")
def expected(network: Network, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return learned(planned(network, "native"), tmp_path_factory.mktemp("native") / "project")


def planned(network: Network, board: str) -> Plan:
    return plan_network(network, load_board(board), UpdatePlan(("dec", "depth")))


@pytest.mark.parametrize(
    ("sanitize", "char"), [(None, None), (None, "signed"), ("address", None), ("thread", None)]
)
def test_a_float_network_learns_the_bits_of_native(
    network: Network, expected: list[bytes], tmp_path: Path, sanitize: Sanitizer | None, char: Sign | None
) -> None:
    plan = plan_network(network, cluster_board(8), UpdatePlan(("dec", "depth")))
    assert learned(plan, tmp_path / "project", sanitize, char) == expected


def test_an_int8_network_infers_the_bits_of_native(tmp_path: Path) -> None:
    if not KEYWORDS.is_file():
        pytest.skip(f"needs ../shared/data/{KEYWORDS.name}")
    network = load_network(KEYWORDS)
    found = []
    for board in ("native", "gap9_host", "gap8_host"):
        plan = plan_network(network, load_board(board), UpdatePlan(()))
        write_project(plan, tmp_path / board)
        elf = boards.build(tmp_path / board, plan.board).elf
        random, (name,) = np.random.default_rng(1), plan.graph.inputs
        with boards.start(elf, plan.board) as running, Device.open(running.url) as device:
            values = random.integers(-128, 128, plan.graph.shape(name), np.int8)
            outputs = device.infer({name: values})
            found.append({key: value.tobytes() for key, value in outputs.items()})
    assert found[0] == found[1] == found[2]


def small_l2(size: int) -> Board:
    board = load_board("gap9_host")
    (l2,) = board.regions
    return dataclasses.replace(board, regions=(dataclasses.replace(l2, bytes=size),))


def test_code_constants_data_and_stack_have_to_fit_into_l2_together(network: Network) -> None:
    update = UpdatePlan(())
    plan = plan_network(network, load_board("gap9_host"), update)
    flash = sum(plan.flash.values())
    needed = plan.sum_bytes
    assert plan_network(network, small_l2(needed), update).offsets == plan.offsets
    # With less, layers run in bands; with much less nothing helps, though data or code alone would fit.
    assert plan_network(network, small_l2(needed - 64), update).ram_bytes < plan.ram_bytes
    least = max(plan.ram_bytes, flash) + plan.board.stack_bytes + 1000
    with pytest.raises(
        DoesNotFitError, match=r"8\.0 K\) of it for the stack and .* for constants and code \(by estimate\)"
    ):
        plan_network(network, small_l2(least), update)


def test_plan_tells_the_sum(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(network.path), "--board", "gap9_evk"]) == 0
    plan = plan_network(network, load_board("gap9_evk"), UpdatePlan(()))
    assert plan.sum_bytes == plan.ram_bytes + sum(plan.flash.values()) + plan.board.stack_bytes
    told = capsys.readouterr().out
    assert f"  in l2        {plan.sum_bytes:,} B" in told
    assert "by estimate, of 1,572,864 B (1.5 M)" in told


def test_ram_limit_is_for_data_alone(network: Network) -> None:
    board = load_board("gap9_host")
    plan = plan_network(network, board, UpdatePlan(("dec", "depth")))
    assert plan_network(network, board, UpdatePlan(("dec", "depth")), ram=plan.ram_bytes).ram == plan.ram


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[cluster]\ncores = 9\n", r"'cluster\.cores' must be a whole number, 1 to 8, not 9"),
        ("[cluster]\ncores = 0\n", r"'cluster\.cores' must be a whole number, 1 to 8, not 0"),
        ("[cluster]\nslave_stack_bytes = 1020\n", r"'cluster\.slave_stack_bytes' must be a multiple of 8"),
        ("[cluster]\nl1_bytes = 32256\n", r"'cluster\.l1_bytes' leaves nothing for data: .* 32256"),
        ("[cluster]\ncore = 8\n", r"'cluster\.core' is not a key .*did you mean cores"),
        ('kit = "sdk"\n', r"'kit' must be \"gap-sdk\" or \"gap8-sdk\", not 'sdk'"),
        (
            '[regions.ram]\nkind = "ram"\nstart = 0\nbytes = 4096\nsource = "x"\n',
            r"'regions' has more than one region, although one is \"unified\"",
        ),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "gap9_host"\n{text}')
    with pytest.raises(BoardError, match=problem):
        load_board(path)


def test_weights_lie_once_where_code_and_data_share_a_memory(network: Network, tmp_path: Path) -> None:
    update = parse_update("dec,depth", weights="bf16", momentum=True)
    plan = plan_network(network, cluster_board(8), update)
    there = plan_network(network, load_board("native"), update)
    assert there.flash["constants"] - plan.flash["constants"] >= plan.ram["weights"] * 9 // 10
    write_project(plan, tmp_path)
    assert "initial_" not in (tmp_path / "model.c").read_text()


def test_the_host_brings_back_the_weights_that_the_firmware_began_with(
    network: Network, tmp_path: Path
) -> None:
    update = parse_update("dec,depth", weights="bf16", momentum=True)
    plan = plan_network(network, cluster_board(8), update)
    sample = {"image": np.full(plan.graph.shape("image"), 9, np.uint8)}
    sample |= {"depth.label": np.ones(plan.graph.shape("depth.label"), np.float32)}
    sample |= {"depth.mask": np.ones(plan.graph.shape("depth.mask"), np.uint8)}
    with open_board(plan, tmp_path) as device:
        first = device.read_role("weight", "state")
        device.set_hyper(Hyper(lr=0.1, momentum=0.9))
        device.put_sample(sample)
        device.step(0)
        learned = device.read_role("weight", "state")
        assert any(not np.array_equal(value, learned[name]) for name, value in first.items())
        device.reset_weights()
        for name, value in device.read_role("weight", "state").items():
            assert np.array_equal(value, first[name]), name
        device.put_sample(sample)
        device.step(0)
        for name, value in device.read_role("weight", "state").items():
            assert np.array_equal(value, learned[name]), name
    firmware = boards.build(tmp_path, plan.board)
    with (
        boards.start(firmware.elf, plan.board) as running,
        Device.open(running.url) as device,
        pytest.raises(RefusedError, match="keeps no copy"),
    ):
        device.reset_weights()
