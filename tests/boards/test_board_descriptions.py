"""Board descriptions are read strictly, and a wrong one is named precisely."""

from pathlib import Path

import pytest

from boards import board_names, load_board
from boards.board import pin_number
from boards.description import SHIPPED
from fieldtune.errors import BoardError


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", board_names())
def test_shipped_board_is_valid_and_named_as_its_file(name: str) -> None:
    board = load_board(name)
    assert board.id == name
    assert board.stack_bytes + board.port_ram_bytes < board.main_ram.bytes
    assert board.rx_ring_bytes <= max(board.port_ram_bytes, 4096)
    assert all(region.source for region in board.regions)


def test_all_promised_boards_are_there() -> None:
    emulated = ["mps2_an385", "mps2_an386", "mps2_an500", "mps2_an505", "mps3_an547"]
    emulated += ["microbit", "native", "netduinoplus2", "qemu_riscv32"]
    ported = ["nucleo_h743zi2", "nucleo_l4r5zi", "nucleo_h7a3zi_q", "stm32f746g_disco", "nucleo_u575zi_q"]
    ported += ["nrf52840dk"]
    portless = ["nrf5340dk", "arduino_nano_33_ble", "rpi_pico", "rpi_pico2", "esp32c3", "esp32s3"]
    gap = ["aideck", "gap8_host", "gap9_evk", "gap9_host", "pulp_open"]
    assert board_names() == sorted(emulated + ported + portless + gap)
    assert [name for name in board_names() if not load_board(name).port] == sorted(portless)


def test_first_ram_of_an_h743_is_its_largest() -> None:
    board = load_board("nucleo_h743zi2")
    assert (board.main_ram.start, board.main_ram.bytes) == (0x24000000, 512 * 1024)
    assert board.main_ram.bytes == max(region.bytes for region in board.regions if region.kind == "ram")


def test_netduinoplus2_is_planned_for_the_real_part() -> None:
    assert load_board("netduinoplus2").ram_bytes == 128 * 1024


def test_unknown_name_comes_with_the_closest_ones() -> None:
    with pytest.raises(BoardError, match=r"no board 'netduinplus2' \(did you mean netduinoplus2"):
        load_board("netduinplus2")


def test_missing_file_is_named() -> None:
    with pytest.raises(BoardError, match=r"no board file nowhere/x\.toml"):
        load_board("nowhere/x.toml")


def test_own_board_changes_only_what_it_says(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'extends = "mps2_an500"\nid = "small"\n[regions.ram]\nbytes = 262144\nsource = "my data sheet"\n',
    )
    mine, base = load_board(path), load_board("mps2_an500")
    assert mine.id == "small"
    assert mine.ram_bytes == 262144
    assert mine.main_ram.start == base.main_ram.start
    assert mine.compiler == base.compiler
    assert mine.flash == base.flash


def test_own_board_may_extend_a_file_and_bring_its_own_port(tmp_path: Path) -> None:
    (tmp_path / "uart").mkdir()
    (tmp_path / "base.toml").write_text('extends = "mps2_an386"\nid = "base"\nstack_bytes = 2048\n')
    path = write(
        tmp_path, 'extends = "base.toml"\nport = ["freestanding", "bare_metal", "cortex_m", "./uart"]\n'
    )
    board = load_board(path)
    assert board.stack_bytes == 2048
    assert board.port[-1] == tmp_path / "uart"


STORE = {"start": 0x21000000, "bytes": 8192, "sector_bytes": 2048, "unit_bytes": 8}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"unit_bytes": 3}, r"'store\.unit_bytes' must be one of 1, 2, 4, 8, 16, 32"),
        (
            {"sector_bytes": 2052, "unit_bytes": 8},
            r"'store\.sector_bytes' must be a multiple of unit_bytes, 8",
        ),
        ({"bytes": 6144}, r"'store\.bytes' must be an even number of sectors"),
        ({"start": 0x21000400}, r"'store\.start' must be a multiple of sector_bytes, 2048"),
        ({"start": 0x20001000}, r"'store\.start' lies inside region 'ram'"),
        ({"sectors": 4}, r"'store\.sectors' is not a key .*did you mean sector_bytes"),
    ],
)
def test_flash_pages_for_weights_must_be_usable(
    tmp_path: Path, changed: dict[str, int], problem: str
) -> None:
    def described(store: dict[str, int]) -> Path:
        keys = "".join(f"{key} = {value}\n" for key, value in store.items())
        return write(tmp_path, f'extends = "mps2_an500"\n[store]\nsource = "x"\n{keys}')

    store = load_board(described(STORE)).store
    assert store is not None
    assert store.slot_bytes == 4096
    with pytest.raises(BoardError, match=problem):
        load_board(described(STORE | changed))


MARKS = {"work": "PG14", "forward": "PA0", "backward": "PA1", "update": "P1.03", "source": "x"}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"work": "D2"}, r"'marks\.work' must be a pin such as \"PG14\" or \"P1\.03\", not 'D2'"),
        ({"work": "PG16"}, r"'marks\.work' must be a pin"),
        ({"update": "PA0"}, r"'marks\.' names a pin twice"),
        ({"loss": "PA3"}, r"'marks\.loss' is not a key"),
    ],
)
def test_pins_for_an_instrument_must_be_pins(tmp_path: Path, changed: dict[str, str], problem: str) -> None:
    def described(marks: dict[str, str]) -> Path:
        keys = "".join(f'{key} = "{value}"\n' for key, value in marks.items())
        return write(tmp_path, f'extends = "mps2_an500"\n[marks]\n{keys}')

    marks = load_board(described(MARKS)).marks
    assert marks is not None
    assert [pin_number(pin) for pin in (marks.work, marks.backward, marks.update)] == [110, 1, 35]
    with pytest.raises(BoardError, match=problem):
        load_board(described(MARKS | changed))


def test_own_board_drives_no_pins_of_the_one_that_it_extends(tmp_path: Path) -> None:
    assert load_board("nucleo_h743zi2").marks is not None
    assert load_board(write(tmp_path, 'extends = "nucleo_h743zi2"\nid = "mine"\n')).marks is None


def test_own_board_extends_a_board_with_several_memories(tmp_path: Path) -> None:
    """Half of the main RAM left to a camera, say, and another serial rate."""
    text = 'extends = "nucleo_h743zi2"\nid = "with_camera"\n[regions.ram]\nbytes = 262144\n'
    mine = load_board(write(tmp_path, text + "[serial]\nbaud = 921600\n"))
    base = load_board("nucleo_h743zi2")
    assert mine.main_ram.name == "ram"
    assert mine.ram_bytes == base.ram_bytes - 262144
    assert mine.port == base.port
    assert mine.serial is not None
    assert mine.serial.baud == 921600


def test_board_without_a_port_needs_neither_its_ram_nor_a_package(tmp_path: Path) -> None:
    text = (SHIPPED / "esp32s3.toml").read_text()
    assert load_board(write(tmp_path, text)).port_ram_bytes == 0
    assert load_board(write(tmp_path, f"port_ram_bytes = 20000\n{text}")).port_ram_bytes == 20000
    with pytest.raises(BoardError, match="'port' is missing, although the board"):
        load_board(write(tmp_path, f'runs_in = ["process"]\n{text}'))


def test_circle_of_extends_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "mine.toml"\n')
    with pytest.raises(BoardError, match="'extends' leads back"):
        load_board(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stack_byte = 4096", r"'stack_byte' is not a key .*did you mean stack_bytes"),
        ('stack_bytes = "4K"', r"'stack_bytes' must be a whole number, 512 or more, not '4K'"),
        ("stack_bytes = true", r"'stack_bytes' must be a whole number"),
        ("stack_bytes = 4097", r"'stack_bytes' must be a multiple of 8"),
        ("rx_ring_bytes = 3000", r"'rx_ring_bytes' must be a power of two"),
        ('arch = "avr"', r"'arch' must be \"host\", \"arm\", \"riscv\" or \"xtensa\", not 'avr'"),
        ('dsp = "yes"', r"'dsp' must be true or false"),
        ('port = ["mps9"]', r"'port' names 'mps9'"),
        ('port = "mps2"', r"'port' must be a list of strings"),
        ('runs_in = ["jtag"]', r"'runs_in' must be \"process\", \"qemu\" or \"gvsoc\", not 'jtag'"),
        ("name = 5", r"'name' must be a string, not 5"),
        ("regions = 5", r"'regions' must be a table"),
        ('[regions.ram]\nkind = "rom"', r"'regions\.ram\.kind' must be \"ram\", \"flash\" or \"unified\""),
        ("[regions.ram]\nsize = 5", r"'regions\.ram\.size' is not a key"),
        ("[regions.ram]\nstart = 0x1000", r"lies inside region"),
        (
            '[regions.ccm]\nkind = "ram"\nstart = 0x10000000\nbytes = 65536',
            r"'regions\.ccm\.source' is missing",
        ),
        (
            '[regions.my-ram]\nkind = "ram"\nstart = 1\nbytes = 1\nsource = "x"',
            r"regions\.my-ram.*C identifier",
        ),
        ('[compiler]\nflag = "-O9"', r"'compiler\.flag' is not a key .*did you mean flags"),
        (
            '[power]\nactive_mw = 0\ncondition = "x"\nsource = "y"',
            r"'power\.active_mw' must be a number above 0",
        ),
        ("extends_ = [", r"is not valid TOML"),
        ("[serial]\nbaud = 0", r"'serial\.baud' must be a whole number, 1 or more"),
    ],
)
def test_wrong_description_names_file_and_key(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, f'extends = "mps2_an500"\n{text}\n')
    with pytest.raises(BoardError, match=problem) as caught:
        load_board(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", ["id", "core", "arch", "port", "stack_bytes", "port_ram_bytes"])
def test_missing_key_is_named(tmp_path: Path, key: str) -> None:
    lines = (SHIPPED / "mps2_an500.toml").read_text().splitlines()
    path = write(tmp_path, "\n".join(line for line in lines if not line.startswith(f"{key} ")))
    with pytest.raises(BoardError, match=f"'{key}' is missing"):
        load_board(path)


def test_number_without_a_source_is_refused(tmp_path: Path) -> None:
    lines = (SHIPPED / "mps2_an500.toml").read_text().replace("[sources]\nclock_hz", "[sources]\nother")
    with pytest.raises(BoardError, match=r"'sources\.clock_hz' is missing"):
        load_board(write(tmp_path, lines))
