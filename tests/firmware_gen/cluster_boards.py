"""GAP9's cluster on this computer, with as many cores and as much L1 as a test wants."""

import dataclasses

from quick_board import PLAIN_FUNCTIONS

from boards import Board, load_board


def cluster_board(cores: int, data_bytes: int | None = None, quick: bool = True) -> Board:
    """Return board `gap9_host` with `cores` cores and `data_bytes` of L1 beside the stacks; None: all of it.

    Kernels are ordinary functions, not specialised for every layer, unless it is not to be `quick`.
    """
    board = load_board("gap9_host")
    assert board.cluster is not None
    cluster = dataclasses.replace(board.cluster, cores=cores)
    if data_bytes is not None:
        stacks = cluster.l1_bytes - cluster.l1_data_bytes
        cluster = dataclasses.replace(cluster, l1_bytes=stacks + data_bytes)
    flags = (*board.compiler.flags, *(PLAIN_FUNCTIONS if quick else ()))
    compiler = dataclasses.replace(board.compiler, flags=flags)
    return dataclasses.replace(board, cluster=cluster, compiler=compiler)
