"""Boards whose firmware is built quickly, where it is not the compiler's work that is tested."""

import dataclasses

from boards import Board, load_board

# Kernels are ordinary functions, not specialised for every layer as in firmware, and are not optimized.
PLAIN_FUNCTIONS = ("-O0", "-Dalways_inline=unused")  # the attribute in FT_INLINE


def quick_board(name: str) -> Board:
    """Return a board; `native` takes a tenth of the time to build, and gives the same bits."""
    board = load_board(name)
    if name != "native":
        return board
    flags = (*board.compiler.flags, *PLAIN_FUNCTIONS)
    return dataclasses.replace(board, compiler=dataclasses.replace(board.compiler, flags=flags))
