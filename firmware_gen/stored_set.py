"""What learned weights take in a slot of the board's flash; ``runtime/link/store.h`` has the format."""

from __future__ import annotations

from boards import Store
from firmware_gen.graph import Graph

HEADER_BYTES = 40  # FT_STORE_HEADER_BYTES
RANGE_ENDS_BYTES = 8  # a tensor of role FT_RANGE


def set_bytes(graph: Graph) -> int:
    """Return the bytes of all weights that learn and all ranges that move; 0 when nothing learns."""
    if not graph.trained:
        return 0
    return sum(graph.learned(name).bytes for name in graph.trained) + RANGE_ENDS_BYTES * len(graph.ranges)


def slot_room(store: Store) -> int:
    """Return the bytes of the largest set that a slot holds beside its header."""
    return store.slot_bytes - -(-HEADER_BYTES // store.unit_bytes) * store.unit_bytes
