"""``cluster/team_config.h``: what the runtime has to know of a board's cluster."""

from __future__ import annotations

from boards.board import Cluster


def team_config(cluster: Cluster) -> str:
    """Return the header's text."""
    return (
        "/* What the board's cluster has, told by the generator: do not edit. */\n"
        "#ifndef FT_TEAM_CONFIG_H\n#define FT_TEAM_CONFIG_H\n\n"
        f"#define FT_TEAM_L1_BYTES     {cluster.l1_data_bytes}u\n"
        f"#define FT_TEAM_MASTER_STACK {cluster.master_stack_bytes}\n"
        f"#define FT_TEAM_SLAVE_STACK  {cluster.slave_stack_bytes}\n\n"
        "#endif\n"
    )
