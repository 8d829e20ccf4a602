"""Weights that outlive the power: real firmware, its flash a file, and the ways in which that can fail."""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cable import Cable
from fake_board import build_fake
from fake_training import HYPER, IMPATIENT, train
from stored_slots import header, slot
from tiny import write_tiny
from tuning import FRAMES, Case

import boards
from boards import Store, load_board
from fieldtune.__main__ import main
from fieldtune.errors import BoardError, DeviceResetError, UserError
from firmware_gen import protocol
from ondevice.device import Device, Hyper
from ondevice.frames import Frame, encode_frame
from ondevice.link import RefusedError
from ondevice.losses import sample_losses
from ondevice.port import Port
from ondevice.training_data import Sample, sample
from ondevice.weight_store import Kept, WeightStore, check_room

Bits = dict[str, bytes]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.make(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def elf(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case.build(tmp_path_factory.mktemp("firmware") / "project")


@pytest.fixture
def flash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "flash"
    monkeypatch.setenv("FT_NATIVE_FLASH", str(path))
    return path


@pytest.fixture
def device(case: Case, elf: Path, flash: Path) -> Iterator[Device]:
    with case.start(elf) as running, Device.open(running.url, timing=IMPATIENT) as device:
        yield device


def bits(device: Device) -> Bits:
    return {name: value.tobytes() for name, value in device.read_role("weight", "range").items()}


def learn(device: Device, number: int) -> Bits:
    """Give the board other weights, which `number` tells apart, and as many steps."""
    names = device.names("weight")
    rng = np.random.default_rng(number)
    shapes = {name: device.tensors[name].array_shape for name in names}
    device.write_tensors({name: rng.normal(size=shapes[name]).astype(np.float32) for name in names})
    device.set_step(number)
    return bits(device)


def states(device: Device) -> tuple[str, ...]:
    return tuple(slot.state for slot in WeightStore(device).slots())


def native_store() -> Store:
    store = load_board("native").store
    assert store is not None
    return store


def change(flash: Path, offset: int, data: bytes) -> None:
    with flash.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


# --- what is kept


def test_what_was_saved_is_there_after_a_restart_and_after_the_process(
    case: Case, elf: Path, device: Device, flash: Path
) -> None:
    store = WeightStore(device)
    initial = bits(device)
    assert not flash.exists()
    assert (device.hello.restored, states(device)) == (False, ("empty", "empty"))
    saved = learn(device, 7)
    assert store.save() == 1
    kept = flash.read_bytes()[: native_store().bytes]
    assert kept[native_store().slot_bytes :] == b"\xff" * native_store().slot_bytes
    learn(device, 8)
    hello = device.reboot()
    assert (hello.restored, hello.step) == (True, 7)
    assert bits(device) == saved
    with case.start(elf) as running, Device.open(running.url) as another:
        assert (another.hello.restored, another.hello.step, bits(another)) == (True, 7, saved)
        another.reset_weights()
        assert (another.reconnect().restored, bits(another)) == (False, initial)


def test_the_plan_knows_what_is_stored(case: Case, device: Device) -> None:
    described = case.plan.describe()["store"]
    WeightStore(device).save()
    found = WeightStore(device).slots()[0]
    assert (found.state, found.sequence, found.bytes) == ("newest", 1, described["set_bytes"])
    assert (found.model_hash, found.plan_hash) == (case.plan.graph.fingerprint(), case.plan.hash())
    assert device.hello.store_room == described["room"]
    assert described["set_bytes"] == sum(map(len, bits(device).values()))


def test_the_set_before_is_there_until_the_next_save(device: Device) -> None:
    store = WeightStore(device)
    sets = []
    for number in range(1, 4):
        sets.append(learn(device, number))
        assert store.save() == number
    assert states(device) == ("newest", "older")
    assert store.load(older=True).step == 2
    assert bits(device) == sets[1]
    assert store.load().step == 3
    assert bits(device) == sets[2]
    store.erase()
    assert states(device) == ("empty", "empty")
    assert bits(device) == sets[2]
    with pytest.raises(RefusedError, match="no such set is stored") as refused:
        store.load()
    assert refused.value.refusal is protocol.NOTHING_STORED
    assert bits(device) == sets[2]


def test_training_goes_on_from_a_stored_set(case: Case, device: Device, samples: list[Sample]) -> None:
    WeightStore(device).save()
    device.set_hyper(Hyper(lr=0.01))
    for attempt in range(2):
        WeightStore(device).load()
        device.put_sample(samples[0])
        device.step(0)
        if attempt == 0:
            first = bits(device)
    assert bits(device) == first


# --- damage


def test_a_set_whose_bits_have_changed_is_not_taken(device: Device, flash: Path) -> None:
    store, size = WeightStore(device), native_store()
    initial, old = bits(device), learn(device, 1)
    store.save()
    learn(device, 2)
    store.save()
    byte = flash.read_bytes()[size.slot_bytes + 100]
    change(flash, size.slot_bytes + 100, bytes([byte ^ 0x10]))
    assert device.reboot().step == 1
    assert states(device) == ("newest", "broken")
    assert bits(device) == old
    change(flash, 4, b"\0")
    assert (device.reboot().restored, states(device)) == (False, ("broken", "broken"))
    assert bits(device) == initial
    again = learn(device, 3)
    assert store.save() == 1
    device.reboot()
    assert bits(device) == again


def test_weights_of_another_plan_are_not_taken(device: Device, flash: Path, tmp_path: Path) -> None:
    other = Case.make(tmp_path, update="depth*")
    firmware = other.build(tmp_path / "other")
    mine = learn(device, 5)
    WeightStore(device).save()
    with other.start(firmware) as running, Device.open(running.url) as stranger:
        assert (stranger.hello.restored, states(stranger)) == (False, ("foreign", "empty"))
        with pytest.raises(RefusedError, match="belongs to its firmware"):
            WeightStore(stranger).load()
        assert WeightStore(stranger).save() == 1
        assert states(stranger) == ("foreign", "newest")
    device.reboot()
    assert (bits(device), states(device)) == (mine, ("newest", "foreign"))


def test_the_number_of_a_save_wraps_past_zero(case: Case, device: Device, flash: Path) -> None:
    store, size = WeightStore(device), native_store()
    payload = b"".join(learn(device, 1).values())
    store.save()
    head = header(payload, case.plan.graph.fingerprint(), case.plan.hash(), 0xFFFFFFFF, step=9)
    change(flash, 0, slot(head, payload, size.unit_bytes, size.slot_bytes))
    assert device.reboot().step == 9
    new = learn(device, 10)
    assert store.save() == 1
    device.reboot()
    assert (bits(device), states(device)) == (new, ("older", "newest"))


def test_a_full_disk_is_told_and_nothing_else_changes(
    case: Case, elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT_NATIVE_FLASH", "/dev/full")
    with case.start(elf) as running, Device.open(running.url) as device:
        weights = learn(device, 3)
        with pytest.raises(RefusedError, match="flash did not take the data") as refused:
            WeightStore(device).save()
        assert refused.value.refusal is protocol.FLASH_FAILED
        assert bits(device) == weights


# --- cuts, through the whole firmware

CUT = struct.Struct("<II")  # ft_flash_cut_t
NOTHING, ALL = 0, 0xFFFFFFFF


def cut(device: Device, flash: Path, countdown: int, done: int) -> None:
    """Have the power go at an operation of the flash; the firmware reads it when it starts."""
    change(flash, native_store().bytes, CUT.pack(countdown, done))
    device.reboot()


def operations(case: Case) -> int:
    """Erases and programs of a save."""
    store, size = native_store(), case.plan.describe()["store"]["set_bytes"]
    return 5 + -(-size // store.unit_bytes) + -(-(40 + size) // store.sector_bytes)


def test_a_cut_while_the_firmware_saves_leaves_one_set_and_a_board_that_answers(
    case: Case, device: Device, flash: Path
) -> None:
    store = WeightStore(device)
    kept = learn(device, 1)
    store.save()
    last = operations(case)
    outcomes = []
    middle, end = last // 2, (last, ALL)
    cuts = [(1, 5), (2, 6), (3, NOTHING), (middle, 7), (last - 1, 5), (last, 5), (last, NOTHING), end]
    for number, (at, done) in enumerate(cuts, 2):
        cut(device, flash, at, done)
        wanted = learn(device, number)
        with pytest.raises(DeviceResetError):
            store.save()
        device.reconnect()
        outcomes.append(bits(device) == wanted)
        assert device.hello.restored
        assert bits(device) == (wanted if outcomes[-1] else kept)
        kept = learn(device, 100 + number)
        store.save()
        assert device.reboot().step == 100 + number
        assert bits(device) == kept
    assert outcomes == [False] * 7 + [True]


def test_a_cut_while_all_is_erased_leaves_the_newest_set_or_none(device: Device, flash: Path) -> None:
    store, size = WeightStore(device), native_store()
    initial = bits(device)
    sectors = size.slot_bytes // size.sector_bytes
    for at, done in [(1, 5), (sectors, ALL), (sectors + 1, NOTHING), (sectors + 1, 5), (sectors + 2, 6)]:
        device.reset_weights()
        learn(device, 1)
        store.save()
        newest = learn(device, 2)
        store.save()
        cut(device, flash, at, done)
        with pytest.raises(DeviceResetError):
            store.erase()
        device.reconnect()
        assert bits(device) == (newest if at <= sectors or done == NOTHING else initial)
        store.erase()


@pytest.mark.parametrize("whole", [True, False])
def test_a_host_that_goes_while_it_asks_for_a_save_leaves_one_set(
    whole: bool, case: Case, elf: Path, flash: Path
) -> None:
    hello = protocol.HELLO.request.pack(protocol=protocol.PROTOCOL_VERSION, session=1)
    asking = encode_frame(Frame(protocol.SAVE.code, 2, b""))
    with case.start(elf) as running:
        with Device.open(running.url, timing=IMPATIENT) as device:
            initial = bits(device)
            old = learn(device, 1)
            WeightStore(device).save()
            device.reboot()
            device.link.command(protocol.REBOOT)
        port = Port(running.url, 115200)
        port.write(encode_frame(Frame(protocol.HELLO.code, 1, hello)))
        port.write(asking if whole else asking[:-3])
        port.close()
        with Device.open(running.url, timing=IMPATIENT) as device:
            assert states(device) == (("older", "newest") if whole else ("newest", "empty"))
            device.reboot()
            assert initial != bits(device) == old


def test_a_board_that_starts_anew_with_a_stored_set_is_not_taken_for_the_one_that_learned(
    case: Case, elf: Path, flash: Path, tmp_path: Path
) -> None:
    with case.start(elf) as running, case.start(elf) as other:
        with Device.open(other.url, timing=IMPATIENT) as device:
            learn(device, 26)  # as many steps as the session has done when it meets this board
            WeightStore(device).save()
            assert device.reboot().step == 26
            device.link.command(protocol.REBOOT)  # a board that has been reset knows of no session
        with (
            Cable(running.url) as cable,
            pytest.raises(UserError, match=r"started anew at step 2\d and lost .* --resume"),
        ):
            case.tune(tmp_path / "session", cable.url, events={26: lambda: cable.switch(other.url)})


# --- the better ones


@pytest.fixture
def samples(case: Case) -> list[Sample]:
    task, graph = case.network.needed_task(), case.plan.graph
    found = [sample(frame, task, graph, FRAMES.geometry) for frame in FRAMES[:5]]
    return [ready for ready in found if ready is not None]


def test_the_losses_are_what_steps_tell_and_nothing_changes(
    case: Case, device: Device, samples: list[Sample]
) -> None:
    device.set_hyper(Hyper(lr=0.0))
    told = []
    for index, one in enumerate(samples):
        device.put_sample(one)
        told.append(sum(device.step(index).losses))
    before = bits(device)
    found = sample_losses(device, case.plan, len(samples), samples)
    assert found == pytest.approx(told, rel=1e-6)
    assert bits(device) == before
    assert device.reconnect().step == len(samples)


def test_measuring_losses_leaves_what_an_optimizer_counts(
    samples: list[Sample], flash: Path, tmp_path: Path
) -> None:
    adam = Case.make(tmp_path, optimizer="adam")
    with (
        adam.start(adam.build(tmp_path / "adam")) as running,
        Device.open(running.url, timing=IMPATIENT) as device,
    ):
        device.set_hyper(Hyper(lr=0.01))
        device.put_sample(samples[0])
        device.step(0)
        before = device.read_role("weight", "state")
        sample_losses(device, adam.plan, 1, samples)
        after = device.read_role("weight", "state")
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert any(value.any() for name, value in before.items() if name not in adam.plan.graph.trained)


def test_the_board_keeps_what_has_the_smaller_loss(device: Device) -> None:
    store, initial = WeightStore(device), bits(device)
    learn(device, 1)
    assert store.keep_better(0.5, 0.6) == Kept(saved=False, sequence=0, step=0)
    assert bits(device) == initial
    good = learn(device, 2)
    assert store.keep_better(0.5, 0.4).saved
    learn(device, 3)
    assert store.keep_better(0.4, float("nan")) == Kept(saved=False, sequence=1, step=2)
    assert bits(device) == good
    assert store.keep_better(0.4, 1e300).sequence == 1


# --- boards and firmware without slots


def test_a_board_without_flash_pages_says_so_in_a_sentence(tmp_path: Path) -> None:
    board = load_board("mps2_an500")
    elf = build_fake(tmp_path / "project", board).elf
    with boards.start(elf, board) as running, Device.open(running.url) as device:
        assert (device.hello.store_room, device.hello.restored) == (0, False)
        with pytest.raises(BoardError, match=r"keeps no weights: its port brings no flash pages"):
            WeightStore(device)
        for message, values in ((protocol.SAVE, {}), (protocol.LOAD, {"older": 0}), (protocol.ERASE, {})):
            with pytest.raises(RefusedError, match="brings no flash pages"):
                device.link.command(message, **values)


def test_weights_that_no_slot_can_hold_are_refused(case: Case, flash: Path, tmp_path: Path) -> None:
    own = tmp_path / "small.toml"
    own.write_text('extends = "native"\nid = "small"\n[store]\nbytes = 512\nsector_bytes = 256\n')
    board = load_board(own)
    with pytest.raises(BoardError, match=r"take 5,\d\d\d bytes, and a slot of small holds 216; let fewer"):
        check_room(replace(case.plan, board=board))
    elf = build_fake(tmp_path / "project", board).elf
    with boards.start(elf, board) as running, Device.open(running.url, timing=IMPATIENT) as device:
        assert device.hello.store_room == 216
        with pytest.raises(RefusedError, match="a slot of its flash holds only 216 bytes") as refused:
            WeightStore(device).save()  # 256 bytes of weights
        assert refused.value.refusal is protocol.STORE_TOO_SMALL
    assert not flash.exists()


@pytest.mark.parametrize("name", ["mps2_an386", "qemu_riscv32"])
def test_emulated_boards_keep_weights_through_a_reset(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    elf = build_fake(tmp_path / "project", board).elf
    with boards.start(elf, board) as running, Device.open(running.url) as device:
        device.set_hyper(HYPER)
        train(device, range(2))
        kept = bits(device)
        assert WeightStore(device).save() == 1
        train(device, range(2, 3))
        hello = device.reboot()
        assert (hello.restored, hello.step, bits(device)) == (True, 2, kept)


# --- commands


def test_tune_keeps_only_what_is_better(
    case: Case, elf: Path, flash: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with case.start(elf) as running:
        first = case.tune(tmp_path / "first", running.url, keep=True)["kept"]
        assert (first["saved"], first["sequence"], first["step"]) == (True, 1, 30)
        assert first["after"] < first["before"]
        worse = Case(case.network, case.plan, Hyper(lr=0.0))
        second = worse.tune(tmp_path / "second", running.url, keep=True, steps=2)["kept"]
        assert (second["saved"], second["sequence"], second["step"]) == (False, 1, 30)
        assert second["before"] == first["after"]
        assert main(["weights", "--port", running.url, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
    assert shown["restored"]
    assert [slot["state"] for slot in shown["slots"]] == ["newest", "empty"]


def test_the_command_shows_saves_loads_and_erases(
    case: Case, elf: Path, flash: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> tuple[int, str]:
        code = main(["weights", *words, "--port", running.url])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    with case.start(elf) as running:
        assert command("save") == (0, "saved as number 1\n")
        code, text = command()
        assert code == 0
        assert "slot 0  newest: save 1, 0 steps" in text
        assert "slot 1  empty" in text
        assert command("load") == (0, "loaded save 1, with 0 training steps behind it\n")
        code, text = command("load", "--older")
        assert (code, text.count("\n")) == (2, 1)
        assert "no such set is stored" in text
        code, text = command("save", "--older")
        assert (code, text) == (2, "fieldtune: --older is for load; leave it out of save\n")
        assert command("erase")[0] == 0
        assert "slot 0  empty" in command("show")[1]


@pytest.mark.parametrize("board", ["mps2_an500", "netduinoplus2"])
def test_keep_is_refused_before_any_build_where_there_are_no_slots(
    board: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.loaders.npz import write_npz

    write_tiny(tmp_path / "tiny.onnx")
    write_npz(tmp_path / "frames.npz", FRAMES)
    words: list[Any] = ["tune", tmp_path / "tiny.onnx", "--board", board, "--data", tmp_path / "frames.npz"]
    words += ["--update", "dec*", "--test", 4, "--steps", 2, "-o", tmp_path / "session", "--keep"]
    assert main(list(map(str, words))) == 2
    assert "no flash pages for weights" in capsys.readouterr().err
    assert not (tmp_path / "session").exists()
