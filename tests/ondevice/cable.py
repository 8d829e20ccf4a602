"""A cable between host and board that can be pulled, and put into another board."""

import contextlib
import os
import select
import socket
import threading
import time
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_UNPLUGGED_S = 0.3


class Cable:
    """Carries bytes between `url` and the terminal of a board.

    It is pulled whenever one of `cuts`, a number of bytes that the host has sent since the beginning, has
    passed, and is back a little later. :meth:`switch` puts it into another board; the host does not see it.
    """

    def __init__(self, board: str, cuts: Sequence[int] = ()) -> None:
        self.pulled = 0
        self._board = _open_terminal(board)
        self._cuts = sorted(cuts)
        self._carried = 0
        self._wake_read, self._wake_write = os.pipe()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._address = self._listener.getsockname()
        self.url = f"socket://127.0.0.1:{self._address[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._listener.close()
        for descriptor in (self._board, self._wake_read, self._wake_write):
            os.close(descriptor)

    def switch(self, board: str) -> None:
        """Put the board's end into another board."""
        os.dup2(_open_terminal(board), self._board)

    def _serve(self) -> None:
        while self._wait(self._listener) is not None:
            host, _ = self._listener.accept()
            with host, contextlib.suppress(OSError):
                if not self._carry(host):
                    continue
            self._listener.close()
            self.pulled += 1
            time.sleep(_UNPLUGGED_S)
            self._listener = socket.create_server(self._address)

    def _carry(self, host: socket.socket) -> bool:
        """Carry bytes until the host hangs up or a cut is due; tell whether it was a cut."""
        while (ready := self._wait(host, self._board)) is not None:
            if self._board in ready:
                host.sendall(os.read(self._board, 65536))
            if host not in ready:
                continue
            left = self._cuts[0] - self._carried if self._cuts else 65536
            data = host.recv(min(65536, left))
            if not data:
                return False
            self._carried += len(data)
            while data:
                data = data[os.write(self._board, data) :]
            if self._cuts and self._carried == self._cuts[0]:
                del self._cuts[0]
                return True
        return False

    def _wait(self, *sources: socket.socket | int) -> list[socket.socket | int] | None:
        """Return what can be read; None when the cable is taken away."""
        ready, _, _ = select.select([*sources, self._wake_read], [], [])
        return None if self._wake_read in ready else ready


def _open_terminal(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    return descriptor
