"""``cluster/team_config.h``: what the runtime has to know of a board's cluster."""

from __future__ import annotations

from boards import Board

TEAM_RAM_BYTES = 160  # static data of team.c on a core of 32 bits; 156 without stacks of its own


def team_config(board: Board) -> str:
    """Return the header's text; the board has a cluster."""
    cluster = board.cluster
    assert cluster is not None
    stacks = ""
    if cluster.master_works:
        stacks = (
            "#define FT_TEAM_MASTER_WORKS 1 /* it is core 0 */\n"
            f"#define FT_TEAM_STACKS       {cluster.l1_bytes - cluster.l1_data_bytes}u\n"
            f"#define FT_TEAM_CLOCK_HZ     {board.clock_hz}u\n"
        )
    return (
        "/* What the board's cluster has, told by the generator: do not edit. */\n"
        "#ifndef FT_TEAM_CONFIG_H\n#define FT_TEAM_CONFIG_H\n\n"
        f"#define FT_TEAM_L1_BYTES     {cluster.l1_data_bytes}u\n"
        f"#define FT_TEAM_MASTER_STACK {cluster.master_stack_bytes}\n"
        f"#define FT_TEAM_SLAVE_STACK  {cluster.slave_stack_bytes}\n"
        f"{stacks}\n"
        "#endif\n"
    )
