"""Constants in L3, which come through buffers in L2: the bits of `native`, whatever lies where."""

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from cluster_boards import Found, assert_same, cluster_board, worked, worked_as
from learning_layers import random_layers
from mixed_networks import trained_side_by_side
from qdq_models import Scale
from qdq_networks import OUTPUT, Layer, QdqNetwork
from quick_board import quick_board

import boards
from boards import Board, load_board
from boards.building import L3_FILE, Sanitizer
from fieldtune.__main__ import main
from fieldtune.errors import BoardError, DoesNotFitError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.cluster.estimate import Estimate
from firmware_gen.cluster.l3 import Choice, External, Piece
from firmware_gen.cluster.layers import ClusterLayers
from firmware_gen.cluster.summary import summarize
from firmware_gen.emit.memory import Memory
from firmware_gen.emit.model import model_c
from firmware_gen.graph import Graph
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, in_l3, make_plan
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.device import Device

MULTITASK = Path(__file__).resolve().parents[2] / "zoo" / "weights" / "multitask_rendered.onnx"
WAIT = "        pi_cl_ram_read_wait(&room->request);\n"
AHEAD = " && &rooms[l3->pieces[next->piece].buffer] != room"
CHANNELS = (16, 32, 48, 64, 64, 48, 8)
LEARNING = {
    "at once": parse_update("c0"),
    "kept gradients": parse_update("c0,c1", momentum=True, keep_gradients=True),
    "in int8": parse_update("c1,c2", weights="int8"),
}


def network(channels: Sequence[int] = CHANNELS, size: int = 16) -> QdqNetwork:
    """Return int8 layers one above the other."""
    names = [*(f"c{k}" for k in range(len(channels) - 1)), "y"]
    below = list(zip(("x", *names), (3, *channels), strict=False))
    layers = [
        Layer(name, x, (count, taken, 3, 3), Scale(0.05, 0), "Relu" if name != "y" else "")
        for name, count, (x, taken) in zip(names, channels, below, strict=False)
    ]
    return QdqNetwork(layers, size, seed=1)


def mobilenet(size: int = 96, classes: int = 1000) -> QdqNetwork:
    """Return the layers of MobileNetV1 in its full width, but for the mean before the last one."""
    layers = [Layer("c0", "x", (32, 3, 3, 3), Scale(0.05, 0), "Relu", stride=2)]

    def add(name: str, count: int, window: int, stride: int = 1, groups: int = 1) -> None:
        below = layers[-1]
        shape = (count, below.channels // groups, window, window)
        activation: Literal["", "Relu"] = "" if name == "y" else "Relu"
        layers.append(Layer(name, below.name, shape, Scale(0.05, 0), activation, stride, groups))

    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for k, (count, stride) in enumerate(zip(widths, (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), strict=True)):
        add(f"d{k}", layers[-1].channels, 3, stride, layers[-1].channels)
        add(f"p{k}", count, 1)
    add("y", classes, 1)
    return QdqNetwork(layers, size, seed=1)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return network().graph(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def inferred(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return worked(graph, quick_board("native"), tmp_path_factory.mktemp("native"))


def learning(graph: Graph, update: UpdatePlan) -> Graph:
    return lighten(training_graph(graph, (LossSpec(OUTPUT, "mse"),), update))


def short_board(
    graph: Graph, missing: int, cores: int = 8, data_bytes: int | None = None, quick: bool = True
) -> Board:
    """Return a board whose L2 is `missing` bytes smaller than all of the network would take."""
    whole = make_plan(graph, cluster_board(8))
    return cluster_board(cores, data_bytes, quick, whole.sum_bytes - missing)


def external(plan: Plan) -> External:
    assert plan.l3 is not None, "all of it is in L2: this tests nothing"
    return plan.l3


# What comes out.


@pytest.mark.parametrize("cores", [1, 8])
@pytest.mark.parametrize("room", [None, 12_000], ids=["all of L1", "constants that L1 does not hold"])
def test_an_inference_has_the_bits_of_native(
    cores: int, room: int | None, graph: Graph, inferred: Found, tmp_path: Path
) -> None:
    board = short_board(graph, 40_000, cores, room)
    assert len([size for size in external(make_plan(graph, board)).buffers if size]) == 2
    assert_same(inferred, worked(graph, board, tmp_path))


def test_one_buffer_where_there_is_no_room_for_two(graph: Graph, inferred: Found, tmp_path: Path) -> None:
    board = short_board(graph, 70_000)
    assert [size > 0 for size in external(make_plan(graph, board)).buffers] == [True, False]
    assert_same(inferred, worked(graph, board, tmp_path))


@pytest.mark.parametrize(
    ("name", "cores"),
    [
        ("at once", 1),
        *((name, 8) for name in LEARNING),
        *(pytest.param(name, 1, marks=pytest.mark.long) for name in LEARNING if name != "at once"),
    ],
)
def test_a_training_step_has_the_bits_of_native(name: str, cores: int, graph: Graph, tmp_path: Path) -> None:
    trained = learning(graph, LEARNING[name])
    board = short_board(trained, 80_000, cores)
    plan = make_plan(trained, board)
    ops = [plan.steps[piece.step].op for piece in external(plan).pieces]
    assert {op.phase for op in ops} == {"forward", "backward"}
    assert not {*trained.trained} & {name for op in ops for name in op.constants}
    assert_same(worked(trained, quick_board("native"), tmp_path), worked(trained, board, tmp_path))


@pytest.mark.parametrize("name", ["float", "products in binary16", "moving"])
def test_all_that_can_be_in_l3(name: str, tmp_path: Path) -> None:
    """Layers of every kind that learns, in part; a whole network; gradients on moving grids."""
    if name == "moving":
        graph = trained_side_by_side(range(6))
    elif name == "float":
        net = random_layers(seed=31)
        losses, update = tuple(net.losses), UpdatePlan(("*:1/3",), momentum=True)
        graph = lighten(training_graph(net.graph(tmp_path), losses, update))
    else:
        update = UpdatePlan((), products="f16")
        graph = plan_network(load_network(MULTITASK), load_board("native"), update).graph
    plan = make_plan(graph, cluster_board(8, 20_000))
    choice = Choice(plan.graph, plan.steps, plan.board.isa, plan.prefer)
    plan = in_l3(plan, choice.external(choice.sizes, 2))
    assert len(external(plan).pieces) > 5
    assert_same(worked(graph, quick_board("native"), tmp_path), worked_as(plan, tmp_path))


def test_bands_of_rows(tmp_path: Path) -> None:
    banded = network((24, 32, 48, 48, 48, 48, 8), size=32).graph(tmp_path)
    board = short_board(banded, 100_000)
    plan = make_plan(banded, board)
    assert any(plan.steps[piece.step].chain for piece in external(plan).pieces)
    assert_same(worked(banded, quick_board("native"), tmp_path), worked(banded, board, tmp_path))


def test_more_weights_than_the_board_itself_holds(tmp_path: Path) -> None:
    large = network((64, *[128] * 12, 16), size=8).graph(tmp_path)
    board = cluster_board(8)
    plan = make_plan(large, board)
    assert sum(constant.value.nbytes for constant in large.constants.values()) > board.main_ram.bytes
    assert plan.sum_bytes <= board.main_ram.bytes
    assert external(plan).bytes > 256 * 1024
    expected = worked(large, quick_board("native"), tmp_path)
    for cores in (1, 8):
        assert_same(expected, worked(large, cluster_board(cores), tmp_path))


@pytest.mark.long
def test_mobilenet_of_4_mb_through_one_buffer_of_1_mb(tmp_path: Path) -> None:
    large = mobilenet().graph(tmp_path)
    plan = make_plan(large, cluster_board(8))
    assert external(plan).bytes > 4_000_000
    assert [size > 1_000_000 for size in external(plan).buffers] == [True, False]
    expected = worked(large, quick_board("native"), tmp_path)
    for cores in (1, 8):
        assert_same(expected, worked(large, cluster_board(cores), tmp_path))


def test_parts_of_a_run_one_by_one(graph: Graph, inferred: Found, tmp_path: Path) -> None:
    """Each part finds its piece, and leaves none on its way: the shim ends the program else."""
    plan = make_plan(graph, short_board(graph, 40_000))
    write_project(plan, tmp_path / "project")
    firmware = boards.build(tmp_path / "project", plan.board)
    x = np.random.default_rng(3).standard_normal(graph.shape("x")).astype(np.float32)
    with boards.start(firmware.elf, plan.board) as running, Device.open(running.url) as device:
        device.put_sample({"x": x})
        for part in range(len(plan.steps)):
            device.run_inference(part, part + 1)
        assert np.array_equal(device.read_tensor(OUTPUT), inferred[f"inferred.{OUTPUT}"])


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_no_report_of_a_sanitizer(sanitizer: Sanitizer, tmp_path: Path) -> None:
    trained = learning(network(size=8).graph(tmp_path), LEARNING["kept gradients"])
    board = short_board(trained, 90_000, data_bytes=30_000)
    external(make_plan(trained, board))
    expected = worked(trained, quick_board("native"), tmp_path)
    assert_same(expected, worked(trained, board, tmp_path, sanitizer))


@pytest.mark.parametrize(
    ("sanitizer", "line", "complaint"),
    [
        (False, WAIT, "has bytes of L2 to which a read from L3 was not waited for"),
        ("thread", WAIT, "data race"),
        ("address", WAIT, "use-after-poison"),
        (False, AHEAD, "has bytes of L2 to which a read from L3 was not waited for"),
    ],
    ids=["plain", "thread", "address", "into the buffer in use"],
)
def test_a_wait_that_is_missing_is_found(
    sanitizer: Sanitizer | bool, line: str, complaint: str, graph: Graph, tmp_path: Path
) -> None:
    # For the sanitizers layers work on L2: where constants go to L1 the shim itself sees it.
    missing, room = 70_000 if line == AHEAD else 40_000, 4_000 if sanitizer else None
    plan = make_plan(graph, short_board(graph, missing, data_bytes=room))
    write_project(plan, tmp_path / "project")
    source = tmp_path / "project/runtime/cluster/l3.c"
    text = source.read_text()
    assert line in text
    source.write_text(text.replace(line, ""))
    firmware = boards.build(tmp_path / "project", plan.board, sanitize=sanitizer)
    with boards.start(firmware.elf, plan.board) as running:
        with pytest.raises(Exception), Device.open(running.url) as device:  # noqa: B017, PT011
            device.run_inference()
        running.process.wait(20)
        assert complaint in running.last_words()


# What the planner decides, and says.


def test_what_fits_is_as_without_l3(graph: Graph) -> None:
    board = cluster_board(8)
    assert board.cluster is not None
    without = dataclasses.replace(board, cluster=dataclasses.replace(board.cluster, l3=None))
    plan, other = make_plan(graph, board), make_plan(graph, without)
    assert plan.l3 is None
    assert plan.describe() == other.describe()
    assert model_c(plan) == model_c(other)
    assert "l3" not in model_c(plan)


def test_bands_come_before_l3(tmp_path: Path) -> None:
    banded = network((24, 32, 48, 48, 48, 48, 8), size=32).graph(tmp_path)
    plan = make_plan(banded, short_board(banded, 30_000))
    assert plan.l3 is None
    assert any(step.chain for step in plan.steps)


def test_the_plan_counts_what_the_c_has(graph: Graph) -> None:
    whole = make_plan(graph, cluster_board(8))
    plan = make_plan(graph, short_board(graph, 40_000))
    text = model_c(plan)
    buffers = [int(size) for size in re.findall(r"uint8_t l3_buffer_\d\[(\d+)\]", text)]
    assert plan.ram["l3_buffers"] == sum(buffers)
    gone = _array_bytes(whole) - _array_bytes(plan)
    assert whole.flash["constants"] - plan.flash["constants"] == gone == external(plan).freed
    assert plan.sum_bytes <= plan.board.main_ram.bytes


def _array_bytes(plan: Plan) -> int:
    """Return the bytes of the arrays in model.c that layers ask for."""
    sizes = {"float": 4, "int32_t": 4, "int16_t": 2, "uint16_t": 2, "int8_t": 1}
    arrays = "".join(ClusterLayers(Memory(plan)).constants.values())
    found = re.findall(r"static const (\w+) \w+\[(\d+)\]", arrays)
    return sum(sizes[c_type] * int(count) for c_type, count in found)


def test_no_set_of_layers_reads_less(tmp_path: Path) -> None:
    """Of all sets that two alternating buffers serve, checked one by one."""
    small = network((16, 24, 40, 24, 32, 8)).graph(tmp_path)
    plan = make_plan(small, cluster_board(8))
    choice = Choice(small, plan.steps, plan.board.isa, plan.prefer)
    everything = choice.best(np.inf)
    assert everything is not None
    for needed in (4_000, 8_000, 12_000):
        found = choice.best(needed)
        assert found is not None
        assert found.saved >= needed
        least = min(
            other.bytes
            for other in (choice.external(steps, 2) for steps in _subsets(everything.pieces))
            if other.saved >= needed
        )
        assert found.bytes <= 1.2 * least  # greedy: the last layer that it takes may be larger than it must


def _subsets(pieces: Sequence[Piece]) -> Iterator[list[int]]:
    for chosen in range(1, 1 << len(pieces)):
        yield [piece.step for k, piece in enumerate(pieces) if chosen >> k & 1]


def test_layers_wait_for_what_has_not_come() -> None:
    pieces = tuple(Piece(step, 0, 100, step % 2, {}) for step in range(4))
    l3 = External(pieces, 0)
    layers = [(0, 10.0), (9, 20.0), (1, 10.0), (2, 500.0), (3, 10.0)]
    # 50 cycles for a piece: the first one is waited for; the second comes beside 30 cycles of layers, the
    # third beside 10, the fourth beside 500.
    assert l3.run_cycles(layers, 2.0) == 50 + 30 + 20 + 10 + 40 + 500 + 10
    one = External(tuple(dataclasses.replace(piece, buffer=0) for piece in pieces), 0)
    assert one.run_cycles(layers, 2.0) == sum(cycles for _, cycles in layers) + 4 * 50
    assert l3.read_bytes([0, 1, 0, 1, 2]) == 300  # a piece that is there is not read again
    assert one.read_bytes([0, 1, 0, 1, 2]) == 500


def estimated(plan: Plan) -> Estimate:
    """Return the cycles of a plan for a cluster of which they are known."""
    times = summarize(plan).times
    assert times is not None
    return times.cycles


def test_time_counts_l3_where_its_speed_is_known(graph: Graph) -> None:
    board = short_board(graph, 40_000)
    unknown = make_plan(graph, board)
    assert summarize(unknown).describe()["l3_bytes_per_cycle"] is None
    assert unknown.seconds is None
    with pytest.raises(BoardError, match=r"bytes come from L3 in a run, and how fast .* leave out --time"):
        make_plan(graph, board, time_limit=1.0)
    assert board.cluster is not None
    assert board.cluster.l3 is not None
    times = []
    for speed in (1e9, 0.25):
        l3 = dataclasses.replace(board.cluster.l3, bytes_per_cycle=speed)
        known = dataclasses.replace(board, cluster=dataclasses.replace(board.cluster, l3=l3))
        plan = make_plan(graph, known, time_limit=10.0)
        assert plan.hash() == unknown.hash()
        times.append(estimated(plan))
    assert times[0].value == pytest.approx(estimated(unknown).value, rel=1e-3)
    assert times[1].low < times[1].value < times[1].high
    assert times[1].value < times[0].value + unknown.l3_read_bytes / 0.25  # some of it beside the cores
    assert times[1].value > unknown.l3_read_bytes / 0.25
    assert "L3 at 0.25 B a cycle" in times[1].source


def test_plan_tells_what_comes_from_l3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = network((64, *[128] * 12, 16), size=8).file(tmp_path)
    assert main(["plan", str(path), "--board", "gap9_evk", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    l3: dict[str, Any] = told["l3"]
    assert sum(l3["buffers"]) == told["ram"]["l3_buffers"]
    assert l3["bytes"] == sum(layer["bytes"] for layer in l3["layers"]) == l3["read_bytes"]
    assert main(["plan", str(path), "--board", "gap9_evk"]) == 0
    text = capsys.readouterr().out
    assert f"  in L3        {l3['bytes']:,} B" in text
    assert f"    buffers    {l3['buffers'][0]:,} B and {l3['buffers'][1]:,} B in l2" in text
    assert f"  from L3      {l3['read_bytes']:,} B" in text
    assert "how long that takes is not known, and not in the time and the energy" in text


# What is refused.


def test_a_layer_that_l2_does_not_hold_as_a_whole_is_named(tmp_path: Path) -> None:
    wide = network((32, 128, 128, 8), size=4).graph(tmp_path)
    with pytest.raises(DoesNotFitError, match=r"layer 'c2' \(conv2d_i8\) has .* come to l2 as a whole"):
        make_plan(wide, cluster_board(8, l2_bytes=140_000))


def test_more_constants_than_l3_holds(graph: Graph) -> None:
    board = short_board(graph, 40_000)
    assert board.cluster is not None
    assert board.cluster.l3 is not None
    l3 = dataclasses.replace(board.cluster.l3, bytes=65_536)
    small = dataclasses.replace(board, cluster=dataclasses.replace(board.cluster, l3=l3))
    with pytest.raises(DoesNotFitError, match=r"has no room, but L3 of gap9_host has .*64\.0 K"):
        make_plan(graph, small)


def test_what_does_not_fit_with_l3_says_so(graph: Graph) -> None:
    trained = learning(graph, LEARNING["kept gradients"])
    with pytest.raises(DoesNotFitError, match=r"\(by estimate\), .* of constants being in L3 already"):
        make_plan(trained, short_board(trained, 250_000))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("bytes_per_cycle = 0", r"'cluster\.l3\.bytes_per_cycle' must be a number above 0"),
        ("bytes = 0", r"'cluster\.l3\.bytes' must be a whole number, 1 or more"),
        ("size = 1", r"'cluster\.l3\.size' is not a key"),
    ],
)
def test_a_wrong_description_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "gap9_host"\n[cluster.l3]\n{text}\n')
    with pytest.raises(BoardError, match=problem):
        load_board(path)


def test_l3_is_for_boards_of_one_memory(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    stacks = "master_stack_bytes = 3584\nslave_stack_bytes = 3584"
    cluster = f'[cluster]\ncores = 8\nl1_bytes = 131072\n{stacks}\nsource = "x"'
    path.write_text(f'extends = "native"\n{cluster}\n[cluster.l3]\nbytes = 65536\nsource = "x"\n')
    with pytest.raises(BoardError, match=r'\'cluster\.l3\' is for a board of one "unified" region'):
        load_board(path)


# The file that has them.


@pytest.fixture
def project(graph: Graph, tmp_path: Path) -> tuple[Plan, Path]:
    plan = make_plan(graph, short_board(graph, 40_000))
    write_project(plan, tmp_path / "project")
    boards.build(tmp_path / "project", plan.board)
    return plan, tmp_path / "project"


def test_a_project_can_be_moved(project: tuple[Plan, Path], inferred: Found, tmp_path: Path) -> None:
    plan, folder = project
    assert (folder / L3_FILE).stat().st_size == external(plan).bytes
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    with boards.start(moved / "build" / "firmware.elf", plan.board) as running:
        with Device.open(running.url) as device:
            device.reboot()
        with Device.open(running.url) as device:  # started anew, it finds the file again
            random = np.random.default_rng(3)
            x = random.standard_normal(plan.graph.shape("x")).astype(np.float32)
            assert np.array_equal(device.infer({"x": x})[OUTPUT], inferred[f"inferred.{OUTPUT}"])


def test_verify_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = network()
    board = short_board(net.graph(tmp_path), 40_000)
    own = tmp_path / "small.toml"
    own.write_text(f'extends = "gap9_host"\n[regions.l2]\nbytes = {board.main_ram.bytes}\n')
    model = net.file(tmp_path)
    assert main(["plan", str(model), "--board", str(own), "--json"]) == 0
    assert "l3" in json.loads(capsys.readouterr().out)
    assert main(["verify", str(model), "--board", str(own), "--count", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_abs_diff"] <= 1


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda content: None, "-5"),
        (lambda content: content[:-16], "-5"),
        (lambda content: bytes([content[0] ^ 1]) + content[1:], "-7"),
        (lambda content: content[:64] + content[80:96] + content[64:80] + content[96:], "-7"),
    ],
    ids=["none", "cut", "another byte", "another order"],
)
def test_a_file_that_is_not_the_program_s_is_refused(
    project: tuple[Plan, Path], damage: Any, code: str
) -> None:
    _, folder = project
    changed = damage((folder / L3_FILE).read_bytes())
    (folder / L3_FILE).unlink()
    if changed is not None:
        (folder / L3_FILE).write_bytes(changed)
    elf = folder / "build" / "firmware.elf"
    done = subprocess.run([elf], capture_output=True, text=True, timeout=20, check=False)
    assert f"ends the program with {code}\n" in done.stderr
