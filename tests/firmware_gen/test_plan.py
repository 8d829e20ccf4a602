"""The plan's numbers: what the generated C takes, and what is said when it is too much."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fleet import RUNTIME
from networks import Net
from quick_board import PLAIN_FUNCTIONS

from boards import Board, load_board
from boards.building import LANGUAGE
from fieldtune.durations import parse_duration
from fieldtune.errors import BoardError, DoesNotFitError
from firmware_gen.backward import training_graph
from firmware_gen.emit.model import model_c
from firmware_gen.graph import Graph
from firmware_gen.passes import lighten
from firmware_gen.plan import GUARD_BYTES, make_plan
from firmware_gen.storage import choose_storage
from firmware_gen.update import UpdatePlan


@pytest.fixture(scope="module")
def net() -> Net:
    net = Net(seed=2)
    x = net.activation(net.conv(net.input(3, 12, 10), 8, (3, 3), (2, 2), (1, 1, 1, 1), name="first"), "Relu")
    y = net.resize(
        net.activation(net.conv(x, 9, name="second"), "LeakyRelu"), (12, 10), "linear", "half_pixel", "floor"
    )
    net.loss(net.conv(y, 2, (3, 3), pads=(1, 1, 1, 1), name="third"), "mse")
    return net


@pytest.fixture
def native() -> Board:
    return load_board("native")


def training(net: Net, folder: Path, update: UpdatePlan) -> Graph:
    return lighten(training_graph(net.graph(folder), tuple(net.losses), update))


def symbols(folder: Path, text: str) -> dict[str, int]:
    """Compile model.c for this computer; return the size of every static object."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    source, out = folder / "model.c", folder / "model.o"
    source.write_text(text)
    flags = (*LANGUAGE, *PLAIN_FUNCTIONS, "-I", str(RUNTIME))
    subprocess.run([compiler, *flags, "-c", str(source), "-o", str(out)], check=True)
    listing = subprocess.run(["nm", "-S", str(out)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\w+ (\w+) ([bBdDrR]) (\w+)$", listing, re.MULTILINE)
    return {name: int(size, 16) for size, _, name in found}


@pytest.mark.parametrize(
    "update",
    [
        UpdatePlan(("third",)),
        UpdatePlan(("*",), momentum=True),
        UpdatePlan(("first", "second.bias"), keep_gradients=True),
        UpdatePlan(("*",), momentum=True, keep_gradients=True),
        UpdatePlan(("*",), momentum=True, state="bf16"),
        UpdatePlan(("*",), weights="bf16"),
        UpdatePlan(("*",), clip_norm=True),
        UpdatePlan(("*",), clip_norm=True, state="bf16"),
        UpdatePlan(("*",), optimizer="adam"),
        UpdatePlan(("first", "second.bias"), keep_gradients=True, optimizer="adamw", state="bf16"),
    ],
    ids=str,
)
def test_static_ram_and_constants_are_those_of_the_compiled_model(
    update: UpdatePlan, net: Net, native: Board, tmp_path: Path
) -> None:
    plan = make_plan(training(net, tmp_path, update), native)
    sizes = symbols(tmp_path, model_c(plan))
    names = [name.replace(".", "_") for name in plan.graph.trained]
    kinds = ("w", "g", "v", "m1", "m2")
    ram = {
        "arena",
        "accumulated",
        "corrections",
        "generator",
        *(f"{kind}_{name}" for kind in kinds for name in names),
    }
    constants = {name: size for name, size in sizes.items() if re.match(r"(w\d*|t|initial)_", name)}
    taken = sum(size for name, size in sizes.items() if name in ram)
    assert taken == plan.ram["arena"] + plan.ram["weights"] + plan.ram["state"]
    assert sum(size for name, size in constants.items() if name not in ram) == plan.flash["constants"]
    assert plan.ram_bytes == sum(plan.ram.values()) == plan.describe()["ram_bytes"]


@pytest.mark.parametrize(
    ("update", "per_weight", "fixed"),
    [
        (UpdatePlan(("*",), momentum=True), 4, 0),
        (UpdatePlan(("*",), momentum=True, state="bf16"), 2, 0),
        (UpdatePlan(("*",), optimizer="adam"), 8, 8),
        (UpdatePlan(("*",), optimizer="adamw", state="bf16"), 6, 8),
        (UpdatePlan(("*",), keep_gradients=True, optimizer="adam"), 12, 12),
    ],
    ids=str,
)
def test_ram_grows_by_what_the_optimizer_keeps(
    update: UpdatePlan, per_weight: int, fixed: int, net: Net, native: Board, tmp_path: Path
) -> None:
    bare = make_plan(training(net, tmp_path, UpdatePlan(("*",))), native)
    plan = make_plan(training(net, tmp_path, update), native)
    sizes = [bare.graph.constants[name].value.size for name in bare.graph.trained]
    words = sum(-(-size * per_weight // 4) * 4 for size in sizes)
    assert any(size % 2 for size in sizes)
    assert plan.ram_bytes - bare.ram_bytes == plan.ram["state"] == words + fixed


def test_rules_that_keep_the_same_make_different_plans(net: Net, native: Board, tmp_path: Path) -> None:
    adam, adamw = (
        make_plan(training(net, tmp_path, UpdatePlan(("*",), optimizer=name)), native)
        for name in ("adam", "adamw")
    )
    assert adam.ram == adamw.ram
    assert adam.hash() != adamw.hash()


def test_every_buffer_of_the_arena_is_described(net: Net, native: Board, tmp_path: Path) -> None:
    plan = make_plan(training(net, tmp_path, UpdatePlan(("*",))), native)
    described = json.loads(json.dumps(plan.describe()))
    assert described["tensors"] == sorted(
        (
            {
                "name": b.name,
                "region": native.main_ram.name,
                "bytes": b.bytes,
                "offset": plan.offsets[b.name],
                "first": b.first,
                "last": b.last,
            }
            for b in choose_storage(plan.steps).buffers
        ),
        key=lambda t: (t["first"], t["name"]),
    )
    assert max(t["offset"] + t["bytes"] for t in described["tensors"]) == described["arena_bytes"]
    assert described["ram"]["arena"] == described["arena_bytes"] + 2 * GUARD_BYTES
    assert described["trained"] == [w["name"] for w in described["weights"]]


def test_multiply_accumulates_are_counted_by_hand(net: Net, native: Board, tmp_path: Path) -> None:
    plan = make_plan(training(net, tmp_path, UpdatePlan(("second",))), native)
    first, second, third = 9 * 3 * 8 * 6 * 5, 8 * 9 * 6 * 5, 9 * 9 * 2 * 12 * 10
    assert plan.macs("forward") == first + second + third
    assert plan.macs("backward", "update") == third + second  # dx of third, dw of second


def test_the_hash_tells_plans_and_models_apart(net: Net, native: Board, tmp_path: Path) -> None:
    one = make_plan(training(net, tmp_path, UpdatePlan(("third",))), native)
    other = make_plan(training(net, tmp_path, UpdatePlan(("second",))), native)
    assert one.hash() != other.hash()
    assert one.hash() == make_plan(training(net, tmp_path, UpdatePlan(("third",))), native).hash()
    constants = dict(one.graph.constants)
    weight = constants["first.weight"]
    constants["first.weight"] = dataclasses.replace(weight, value=weight.value * 2)
    assert dataclasses.replace(one.graph, constants=constants).fingerprint() != one.graph.fingerprint()


def test_a_plan_beyond_the_given_ram_is_refused_with_the_numbers(
    net: Net, native: Board, tmp_path: Path
) -> None:
    graph = training(net, tmp_path, UpdatePlan(("*",)))
    with pytest.raises(DoesNotFitError) as caught:
        make_plan(graph, native, 4096)
    message = str(caught.value)
    least = re.search(r"give --ram (\d+) or more", message)
    assert least is not None
    need = int(least[1])
    assert make_plan(graph, native, need).ram_bytes <= need
    assert message.startswith(f"net training needs {need:,} B")
    assert "--ram allows 4,096 B" in message
    assert re.search(r"\(arena [\d,]+, weights [\d,]+, link [\d,]+.*\)", message)
    assert re.search(r"in the way are [\w.]+ [\d,]+ B, .* at \w+ \(\w+\)", message)
    with pytest.raises(DoesNotFitError):
        make_plan(graph, native, need - 1)


def test_weights_that_alone_are_beyond_the_given_ram_are_named(
    net: Net, native: Board, tmp_path: Path
) -> None:
    with pytest.raises(DoesNotFitError, match=r"in the way are [\w.]*weight [\d,]+ B, ") as caught:
        make_plan(training(net, tmp_path, UpdatePlan(("*",))), native, 2048)
    assert " at " not in str(caught.value)


def test_a_step_beyond_the_given_time_is_refused_with_the_slowest_layers(net: Net, tmp_path: Path) -> None:
    board = load_board("mps2_an386")
    graph = training(net, tmp_path, UpdatePlan(("*",)))
    need = make_plan(graph, board).seconds
    assert need is not None
    with pytest.raises(DoesNotFitError) as caught:
        make_plan(graph, board, time_limit=need / 2)
    message = str(caught.value)
    assert re.search(r"net training takes \d+[mu]s on mps2_an386 by estimate .* but --time allows", message)
    assert re.search(r"in the way are \w+ \d+[mu]s, ", message)
    least = re.search(r"give --time (\w+) or more", message)
    assert least is not None
    make_plan(graph, board, time_limit=parse_duration(least[1]))


def test_without_a_clock_rate_a_time_limit_is_refused(net: Net, native: Board, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"native cannot be estimated.*leave out --time"):
        make_plan(net.graph(tmp_path), native, time_limit=1.0)


def test_an_estimate_is_in_the_description_and_not_in_the_hash(net: Net, tmp_path: Path) -> None:
    board = load_board("mps2_an386")
    plan = make_plan(net.graph(tmp_path), board)
    described = plan.describe()
    assert described["instructions_estimate"] > described["macs_forward"]
    assert described["time_estimate_ms"] == pytest.approx(
        described["instructions_estimate"] / board.clock_hz * 1e3, rel=1e-2
    )
    faster = dataclasses.replace(plan, board=dataclasses.replace(board, clock_hz=board.clock_hz * 2))
    assert faster.seconds == pytest.approx(plan.seconds / 2)
    assert faster.hash() == plan.hash()


def test_a_plan_beyond_the_board_is_refused_with_its_memory(tmp_path: Path) -> None:
    net = Net(seed=2)
    net.output(net.conv(net.conv(net.input(3, 96, 96), 8), 8))
    board = load_board("netduinoplus2")
    with pytest.raises(
        DoesNotFitError, match=r"net inference needs .* but netduinoplus2 has 131,072 B .*stack"
    ):
        make_plan(net.graph(tmp_path), board)
    with pytest.raises(DoesNotFitError, match="netduinoplus2 has"):
        make_plan(net.graph(tmp_path), board, 1 << 30)  # --ram gives no memory that the board lacks


def test_weights_beyond_the_flash_are_refused(tmp_path: Path) -> None:
    net = Net(seed=2)
    net.output(net.linear(net.flatten(net.input(2, 1, 1024)), 600))
    with pytest.raises(
        DoesNotFitError, match=r"needs 4,91[\d,]+ B .* of flash for its weights, but netduinoplus2 has"
    ):
        make_plan(net.graph(tmp_path), load_board("netduinoplus2"))
