"""The memory plan of random networks: nothing is overwritten while it is needed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from drawing import SHORT
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_proof import read
from memory_model import MemoryModel
from networks import Net
from proof import Case
from test_layout import chain
from test_operators import FAMILIES
from tflite_pieces import side_by_side

from boards import load_board
from firmware_gen.arena import peak_bytes
from firmware_gen.emit.model import model_c
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan

MANY = settings(SHORT, max_examples=60)
NETWORKS = st.one_of(*(strategy for family in FAMILIES.values() for strategy in family))


def check(plan: Plan) -> None:
    """Assert that every tensor still is what it was when it is read, in training and in inference."""
    training = MemoryModel(plan)
    training.run("forward", "loss", "backward", "update")
    inference = MemoryModel(plan)
    inference.run("forward")
    for name in plan.graph.outputs:
        inference.assert_holds(name)
    for name in (*plan.graph.inputs, *plan.graph.labels, *plan.graph.masks, *plan.graph.outputs):
        inference.assert_dense(name)


def test_no_value_is_overwritten_before_its_last_use(folders: Iterator[Path]) -> None:
    @MANY
    @given(NETWORKS, st.booleans(), st.booleans())
    def run(case: Case, momentum: bool, kept: bool) -> None:
        check(case.net.plan(next(folders), UpdatePlan(case.patterns, momentum, kept)))

    run()


def test_no_value_is_overwritten_in_pure_inference(folders: Iterator[Path]) -> None:
    @MANY
    @given(NETWORKS)
    def run(case: Case) -> None:
        check(make_plan(case.net.graph(next(folders)), load_board("native")))

    run()


def test_no_value_is_overwritten_where_views_follow_views(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    for k in range(200):
        graph = read(side_by_side([chain(random, "i8")]).model, tmp_path, f"chain{k}")
        check(make_plan(graph, load_board("native")))


def test_buffers_alive_together_lie_apart_and_the_peak_is_the_bound(folders: Iterator[Path]) -> None:
    @MANY
    @given(NETWORKS)
    def run(case: Case) -> None:
        plan = case.net.plan(next(folders), UpdatePlan(case.patterns))
        for a in plan.buffers:
            for b in plan.buffers:
                if a.name < b.name and a.first <= b.last and b.first <= a.last:
                    start, other = plan.offsets[a.name], plan.offsets[b.name]
                    assert start + a.bytes <= other or other + b.bytes <= start
        assert plan.arena_bytes >= peak_bytes(plan.buffers)

    run()


def test_the_memory_model_notices_buffers_that_collide(tmp_path: Path) -> None:
    net = network()
    plan = net.plan(tmp_path, UpdatePlan(("*",)))
    offsets = dict.fromkeys(plan.offsets, 0)
    broken = Plan(**{**vars(plan), "offsets": offsets})
    with pytest.raises(AssertionError, match=r"overwritten|overlap|over its input"):
        check(broken)


def test_an_output_survives_the_in_place_operator_behind_it(tmp_path: Path) -> None:
    net = Net(seed=3)
    x = net.conv(net.input(2, 3, 3), 4)
    net.output(x)
    net.output(net.activation(x, "Relu"))
    check(make_plan(net.graph(tmp_path), load_board("native")))


def test_an_output_is_dense_where_it_could_take_over_a_part_of_a_concatenation(tmp_path: Path) -> None:
    net = Net(seed=3)
    image = net.input(2, 3, 3)
    a, b = net.conv(image, 4), net.conv(image, 4)
    wide = net.conv(net.concat(a, b), 4)
    net.output(net.add(net.add(a, wide), b))
    check(make_plan(net.graph(tmp_path), load_board("native")))


def test_a_concatenation_is_written_in_place_where_that_saves_memory(tmp_path: Path) -> None:
    net = Net(seed=3)
    image = net.input(2, 8, 8)
    joint = net.concat(net.conv(image, 4), net.conv(image, 4))
    net.output(net.conv(joint, 1))
    plan = make_plan(net.graph(tmp_path), load_board("native"))
    assert "ft_copy(" not in model_c(plan).split("FT_STEP", 1)[1]
    assert len({plan.views[name].buffer for name in ("conv1", "conv2", "concat3")}) == 1


def network() -> Net:
    net = Net(seed=11)
    image = net.input(3, 9, 8)
    a = net.activation(net.conv(image, 5, norm=True), "LeakyRelu")
    b = net.max_pool(a, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), ceil=True)
    c = net.resize(net.conv(b, 6), (9, 8), "linear", "half_pixel", "floor")
    net.loss(net.conv(net.concat(a, c), 2), "berhu")
    return net


SCRIPT = """
import sys
from pathlib import Path
from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.emit.model import model_c
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.plan import make_plan
from firmware_gen.update import UpdatePlan
graph = simplify(import_onnx(Path(sys.argv[1])))
graph = lighten(training_graph(graph, (LossSpec(graph.outputs[0], "berhu"),), UpdatePlan(("*",), True)))
sys.stdout.write(model_c(make_plan(graph, load_board("native"))))
"""


def test_the_same_model_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network().model(), path)
    texts = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert b"ft_model" in texts[0]
