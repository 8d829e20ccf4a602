import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldtune.errors import LinkError
from firmware_gen import protocol
from firmware_gen.payloads import Payload
from firmware_gen.protocol import NOTICES, REFUSALS, REQUESTS, Message
from firmware_gen.protocol_header import link_ram_bytes, protocol_header

RUNTIME = Path(__file__).parents[2] / "firmware_gen" / "runtime"
PAYLOADS = [payload for message in REQUESTS + NOTICES for payload in (message.request, message.reply)]
VALUES = {
    "u8": st.integers(0, 0xFF),
    "u16": st.integers(0, 0xFFFF),
    "u32": st.integers(0, 0xFFFFFFFF),
    "u64": st.integers(0, 2**64 - 1),
    "f32": st.floats(width=32, allow_nan=False),
    "u16[3]": st.tuples(*[st.integers(0, 0xFFFF)] * 3),
    "f32[]": st.lists(st.floats(width=32, allow_nan=False), max_size=8).map(tuple),
    "bytes": st.binary(max_size=40),
    "text": st.text(max_size=20).filter(str.isprintable),
}


def compile_c(compiler: str, source: str, folder: Path, *flags: str) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (folder / "source.c").write_text(source)
    output = folder / "output"
    includes = [f"-I{folder}", f"-I{RUNTIME}"]
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", *flags, *includes, folder / "source.c"]
    subprocess.run([*command, "-o", output], check=True)
    return output


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text makes tables of all characters
@given(st.data())
def test_what_is_packed_is_unpacked(data: st.DataObject) -> None:
    payload = data.draw(st.sampled_from(PAYLOADS))
    values = {field.name: data.draw(VALUES[field.type]) for field in payload.fields}
    assert payload.unpack(payload.pack(**values)) == values


def test_payloads_are_little_endian_without_gaps() -> None:
    request = protocol.WRITE.request.pack(tensor=0x0102, offset=0x03040506, data=b"\x07\x08")
    assert request == bytes([2, 1, 6, 5, 4, 3, 7, 8])


@pytest.mark.parametrize(
    ("payload", "length"),
    [
        (protocol.INFER.reply, 7),
        (protocol.INFER.reply, 9),
        (protocol.STEP.reply, 11),
        (protocol.STEP.reply, 14),
    ],
)
def test_a_reply_of_impossible_length_is_an_error(payload: Payload, length: int) -> None:
    with pytest.raises(LinkError, match=f"{length} bytes"):
        payload.unpack(bytes(length))


def test_text_cannot_control_a_terminal() -> None:
    assert protocol.LOG.reply.unpack(b"\x1b[2Jhi\xff")["text"] == "\ufffd[2Jhi\ufffd"


def test_only_the_board_sends_types_with_the_reply_bit() -> None:
    codes = [message.code for message in REQUESTS]
    from_board = [message.reply_code for message in REQUESTS] + [message.code for message in NOTICES]
    assert all(0 < code < protocol.REPLY for code in codes)
    assert all(code >= protocol.REPLY for code in from_board)
    assert len({*codes, *from_board}) == len(codes) + len(from_board)
    assert len({refusal.code for refusal in REFUSALS}) == len(REFUSALS)


@pytest.mark.parametrize("message", REQUESTS + NOTICES, ids=lambda message: str(message.name))
def test_only_the_last_field_takes_what_is_left(message: Message) -> None:
    for payload in (message.request, message.reply):
        assert not any(field.is_tail for field in payload.fields[:-1])


def test_every_field_follows_the_one_before() -> None:
    for payload in PAYLOADS:
        for (field, offset), (_, following) in pairwise(payload.offsets()):
            assert offset + field.size == following


def test_the_header_names_every_message_once() -> None:
    defined = re.findall(r"^#define (\w+)", protocol_header(), re.MULTILINE)
    assert len(defined) == len(set(defined))
    assert {f"FT_MSG_{message.name.upper()}" for message in REQUESTS + NOTICES} <= set(defined)
    assert protocol_header() == protocol_header()


def test_sizes_that_the_firmware_cannot_have_are_refused() -> None:
    for sizes in ((63, 1), (65_529, 1), (1024, 0), (1024, 61)):
        with pytest.raises(ValueError, match="out of range"):
            protocol_header(*sizes)


def test_roles_and_dtypes_are_those_of_the_c_header(tmp_path: Path) -> None:
    names = [*protocol.ROLES, *protocol.DTYPES]
    numbers = [*range(len(protocol.ROLES)), *range(len(protocol.DTYPES))]
    checks = "\n".join(
        f"typedef char check_{name}[FT_{name.upper()} == {number} ? 1 : -1];"
        for name, number in zip(names, numbers, strict=True)
    )
    compile_c("gcc", f'#include "model_api.h"\n{checks}\n', tmp_path, "-c")


@pytest.mark.parametrize(("max_payload", "max_losses"), [(1024, 8), (64, 1), (501, 60), (777, 2), (1000, 3)])
def test_ram_is_known_before_the_build(max_payload: int, max_losses: int, tmp_path: Path) -> None:
    shutil.copytree(RUNTIME / "link", tmp_path / "link")
    shutil.copy(RUNTIME / "model_api.h", tmp_path)
    (tmp_path / "link" / "protocol.h").write_text(protocol_header(max_payload, max_losses))
    source = '#include "link/firmware.h"\nft_firmware_t firmware;\n'
    output = compile_c("arm-none-eabi-gcc", source, tmp_path, "-c", "-ffreestanding", "-mcpu=cortex-m4")
    with output.open("rb") as stream:
        symbols = ELFFile(stream).get_section_by_name(".symtab").get_symbol_by_name("firmware")
        assert symbols[0]["st_size"] == link_ram_bytes(max_payload, max_losses)
