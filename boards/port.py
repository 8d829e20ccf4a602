"""The files of a project's ``port/`` folder: the board's C, and what is generated from its description."""

from boards.board import Board, pin_number
from boards.linker import link_script
from fieldtune.errors import BoardError


def check_port(board: Board) -> None:
    """Check that whole firmware can be made for the board.

    Raises:
        BoardError: the board has no port of its own.
    """
    if not board.port:
        raise BoardError(
            f"board {board.id} has no port of its own; generate the component (--layout, docs/component.md), "
            "and add it to a firmware that the vendor's kit builds"
        )


def port_files(board: Board) -> dict[str, str]:
    """Return file name -> text: the port's C files, ``port_config.h`` and, on bare metal, ``link.ld``.

    Raises:
        BoardError: the board has no port, or two folders of it have a file of the same name.
    """
    check_port(board)
    files: dict[str, str] = {}
    for folder in board.port:
        for path in sorted(folder.iterdir()):
            if path.suffix not in (".c", ".h"):
                continue
            if path.name in files:
                raise BoardError(
                    f"the port of {board.id} has two files {path.name}; rename the one in {folder}"
                )
            files[path.name] = path.read_text(encoding="utf-8")
    files["port_config.h"] = _config(board)
    if board.arch != "host" and board.kit is None:
        files["link.ld"] = link_script(board)
    return files


def _config(board: Board) -> str:
    values = {"FT_PORT_STACK_BYTES": board.stack_bytes, "FT_PORT_RX_RING": board.rx_ring_bytes}
    if board.clock_hz is not None:
        values["FT_PORT_CLOCK_HZ"] = board.clock_hz
    if board.serial is not None:
        values["FT_PORT_BAUD"] = board.serial.baud
    if board.cluster is not None:
        values["FT_PORT_CLUSTER_CORES"] = board.cluster.cores
        values["FT_PORT_L1_BYTES"] = board.cluster.l1_bytes
        values["FT_PORT_L2_BYTES"] = board.main_ram.bytes
        if board.l3 is not None:
            values["FT_PORT_L3_BYTES"] = board.l3.bytes
        values["FT_PORT_MASTER_STACK_BYTES"] = board.cluster.master_stack_bytes
        values["FT_PORT_SLAVE_STACK_BYTES"] = board.cluster.slave_stack_bytes
        if board.cluster.master_works:
            values["FT_PORT_MASTER_WORKS"] = 1
    if board.kit == "gap8-sdk":
        values["FT_PORT_START"] = 1
    if board.store is not None:
        values["FT_PORT_STORE_START"] = board.store.start
        values["FT_PORT_STORE_BYTES"] = board.store.bytes
        values["FT_PORT_STORE_SECTOR"] = board.store.sector_bytes
        values["FT_PORT_STORE_UNIT"] = board.store.unit_bytes
    if board.marks is not None:
        values["FT_PORT_MARK_WORK"] = pin_number(board.marks.work)
        values["FT_PORT_MARK_FORWARD"] = pin_number(board.marks.forward)
        values["FT_PORT_MARK_BACKWARD"] = pin_number(board.marks.backward)
        values["FT_PORT_MARK_UPDATE"] = pin_number(board.marks.update)
    if board.sensors is not None:
        values["FT_PORT_SENSORS"] = 1
        if board.sensors.recording is not None:
            values["FT_PORT_RECORDING"] = board.sensors.recording
    lines = [f"#define {name} {value}u" for name, value in values.items()]
    head = f"/* Generated from the description of {board.id}. */"
    return "\n".join([head, "#ifndef FT_PORT_CONFIG_H", "#define FT_PORT_CONFIG_H", *lines, "#endif", ""])
