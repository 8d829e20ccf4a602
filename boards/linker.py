"""The linker script of a bare-metal board, from its memory regions."""

from boards.board import Board, MemoryRegion

_SCRIPT = """\
/* Generated from the description of {id}. */
MEMORY
{{
{memory}
}}

ENTRY(ft_entry)

ft_flash_start = ORIGIN({flash});
ft_flash_end = ORIGIN({flash}) + LENGTH({flash});

SECTIONS
{{
{sections}
    /DISCARD/ : {{ *(.ARM.exidx* .ARM.extab* .eh_frame* .note.*) }}
}}

ASSERT(ADDR(.stack) == ORIGIN({ram}), "the stack must start the RAM, so that its overflow faults")
"""

_TEXT = """\
    .text :
    {{
        *(.text .text.*)
        *(.rodata .rodata.* .srodata .srodata.*)
        . = ALIGN(4);
        ft_zero_table = .;
{zero_table}
        ft_zero_table_end = .;
    }} > {flash}
"""

# The stack lies at the bottom of the main RAM, so that an overflow runs into what is below it (nothing, or
# read-only memory) and faults, instead of overwriting the model.
_STACK = """\
    .stack (NOLOAD) :
    {{
        ft_stack_low = .;
        . += {stack_bytes};
        ft_stack_high = .;
    }} > {ram}
"""

# Zeroed data is sorted by alignment, so that no padding comes between it: the memory plan counts none.
_DATA = """\
    .data : ALIGN(4)
    {{
        ft_data_start = .;
        *(.data .data.* .sdata .sdata.*)
        . = ALIGN(4);
        ft_data_end = .;
    }} > {ram} AT > {flash}
    ft_data_image = LOADADDR(.data);

    .bss (NOLOAD) : ALIGN(4)
    {{
        ft_bss_start = .;
        *(SORT_BY_ALIGNMENT(.bss) SORT_BY_ALIGNMENT(.bss.*))
        *(SORT_BY_ALIGNMENT(.sbss) SORT_BY_ALIGNMENT(.sbss.*) COMMON)
        *(.ft_ram.{ram})
        . = ALIGN(4);
        ft_bss_end = .;
    }} > {ram} AT > {ram}
"""

_VECTORS = """\
    .vectors :
    {{
        KEEP(*(.vectors))
        KEEP(*(.interrupts))
    }} > {region}
"""

_EXTRA = """\
    .ft_ram_{name} (NOLOAD) : ALIGN(4)
    {{
        ft_ram_{name}_start = .;
        *(.ft_ram.{name})
        . = ALIGN(4);
        ft_ram_{name}_end = .;
    }} > {name} AT > {name}
"""


def link_script(board: Board) -> str:
    """Return the text of ``link.ld``.

    Arrays in section ``.ft_ram.NAME`` go to the RAM region NAME; all of them start as zeros. Where one memory
    holds all, code lies between the stack and the data, which is where it is loaded.
    """
    vectors = _VECTORS.format(region=_first_flash(board).name)
    text = _TEXT.format(flash=board.flash.name, zero_table=_zero_table(board))
    stack = _STACK.format(ram=board.main_ram.name, stack_bytes=board.stack_bytes)
    data = _DATA.format(ram=board.main_ram.name, flash=board.flash.name)
    extra = (_EXTRA.format(name=region.name) for region in _extra(board))
    first = (stack, vectors, text) if board.unified else (vectors, text, stack)
    return _SCRIPT.format(
        id=board.id,
        memory="\n".join(_memory(region) for region in board.regions),
        flash=board.flash.name,
        ram=board.main_ram.name,
        sections="\n".join((*first, data, *extra)),
    )


def _extra(board: Board) -> list[MemoryRegion]:
    return [region for region in board.regions if region.kind == "ram" and region != board.main_ram]


def _zero_table(board: Board) -> str:
    """Return the lines of the table of what start-up fills with zeros."""
    names = ["ft_bss", *(f"ft_ram_{region.name}" for region in _extra(board))]
    return "\n".join(f"        LONG({name}_start) LONG({name}_end)" for name in names)


def _first_flash(board: Board) -> MemoryRegion:
    """Return the flash of the lowest address, where a core starts."""
    return min(
        (region for region in board.regions if region.kind in ("flash", "unified")),
        key=lambda region: region.start,
    )


def _memory(region: MemoryRegion) -> str:
    access = {"flash": "rx", "ram": "rw", "unified": "rwx"}[region.kind]
    return f"    {region.name} ({access}) : ORIGIN = {region.start:#010x}, LENGTH = {region.bytes}"
