"""The linker script of a bare-metal board, from its memory regions."""

from boards.board import Board, MemoryRegion

# The stack lies at the bottom of the main RAM, so that an overflow runs into what is below it (nothing, or
# read-only memory) and faults, instead of overwriting the model. Zeroed data is sorted by alignment, so that
# no padding comes between it: the memory plan counts none.
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
{vectors}
    .text :
    {{
        *(.text .text.*)
        *(.rodata .rodata.* .srodata .srodata.*)
        . = ALIGN(4);
        ft_zero_table = .;
{zero_table}
        ft_zero_table_end = .;
    }} > {flash}

    .stack (NOLOAD) :
    {{
        ft_stack_low = .;
        . += {stack_bytes};
        ft_stack_high = .;
    }} > {ram}

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
{own_main}
        . = ALIGN(4);
        ft_bss_end = .;
    }} > {ram} AT > {ram}
{extra}
    /DISCARD/ : {{ *(.ARM.exidx* .ARM.extab* .eh_frame* .note.*) }}
}}

ASSERT(ADDR(.stack) == ORIGIN({ram}), "the stack must start the RAM, so that its overflow faults")
"""

_VECTORS = """\
    .vectors :
    {{
        KEEP(*(.vectors))
        KEEP(*(.interrupts))
    }} > {region}
"""

_EXTRA = """
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

    Arrays in section ``.ft_ram.NAME`` go to the RAM region NAME; all of them start as zeros.
    """
    extra = [region for region in board.regions if region.kind == "ram" and region != board.main_ram]
    return _SCRIPT.format(
        id=board.id,
        memory="\n".join(_memory(region) for region in board.regions),
        flash=board.flash.name,
        vectors=_VECTORS.format(region=_first_flash(board).name),
        ram=board.main_ram.name,
        stack_bytes=board.stack_bytes,
        own_main=f"        *(.ft_ram.{board.main_ram.name})",
        zero_table="\n".join(
            f"        LONG({start}) LONG({end})"
            for start, end in [
                ("ft_bss_start", "ft_bss_end"),
                *((f"ft_ram_{region.name}_start", f"ft_ram_{region.name}_end") for region in extra),
            ]
        ),
        extra="".join(_EXTRA.format(name=region.name) for region in extra),
    )


def _first_flash(board: Board) -> MemoryRegion:
    """Return the flash of the lowest address, where a core starts."""
    return min(
        (region for region in board.regions if region.kind == "flash"), key=lambda region: region.start
    )


def _memory(region: MemoryRegion) -> str:
    access = "rx" if region.kind == "flash" else "rw"
    return f"    {region.name} ({access}) : ORIGIN = {region.start:#010x}, LENGTH = {region.bytes}"
