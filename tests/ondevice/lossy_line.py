"""A line between host and board that loses, damages, duplicates and delays frames, in both directions."""

import contextlib
import os
import random
import select
import socket
import threading
import tty
from collections import Counter
from collections.abc import Iterator

_FAULTS = ("lost", "damaged", "duplicated", "delayed")
_LONGEST_DELAY = 40


class _Direction:
    """Frames one way. A delayed frame arrives after up to forty later ones: long after it was sent again."""

    def __init__(self, rate: float, seed: int, faults: "Counter[str]") -> None:
        self._rate = rate
        self._random = random.Random(seed)
        self._faults = faults
        self._rest = b""
        self._held: list[tuple[int, bytes]] = []  # (frames that pass before it, frame)

    def pass_on(self, data: bytes) -> bytes:
        *frames, self._rest = (self._rest + data).split(b"\0")
        return b"".join(self._pass_frame(frame + b"\0") for frame in frames)

    def _pass_frame(self, frame: bytes) -> bytes:
        due = b"".join(held for left, held in self._held if left <= 0)
        self._held = [(left - 1, held) for left, held in self._held if left > 0]
        return self._spoil(frame) + due

    def _spoil(self, frame: bytes) -> bytes:
        if len(frame) == 1 or self._random.random() >= self._rate:
            return frame
        fault = self._random.choice(_FAULTS)
        self._faults[fault] += 1
        if fault == "damaged":
            position = self._random.randrange(len(frame))
            bit = 1 << self._random.randrange(8)
            return frame[:position] + bytes([frame[position] ^ bit]) + frame[position + 1 :]
        if fault == "delayed":
            self._held.append((self._random.randint(1, _LONGEST_DELAY), frame))
        return frame * 2 if fault == "duplicated" else b""


@contextlib.contextmanager
def lossy_line(board: str, rate: float, seed: int) -> Iterator[tuple[str, "Counter[str]"]]:
    """Yield the url of the line's host end, and what was done to frames so far, for the terminal `board`."""
    faults: Counter[str] = Counter()
    wake_read, wake_write = os.pipe()
    terminal = os.open(board, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(terminal)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (listener, terminal, wake_read, rate, seed, faults)
        thread = threading.Thread(target=_serve, args=arguments)
        thread.start()
        try:
            yield f"socket://127.0.0.1:{listener.getsockname()[1]}", faults
        finally:
            os.write(wake_write, b"x")
            thread.join()
            for descriptor in (terminal, wake_read, wake_write):
                os.close(descriptor)


def _serve(
    listener: socket.socket, terminal: int, wake: int, rate: float, seed: int, faults: "Counter[str]"
) -> None:
    """Serve one host after the other until `wake` can be read."""
    to_board, to_host = _Direction(rate, seed, faults), _Direction(rate, seed + 1, faults)
    while True:
        ready, _, _ = select.select([listener, wake], [], [])
        if wake in ready:
            return
        host, _ = listener.accept()
        with host, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([host, terminal, wake], [], [])
                if wake in ready:
                    return
                if host in ready:
                    data = host.recv(65536)
                    if not data:
                        break
                    _write_all(terminal, to_board.pass_on(data))
                if terminal in ready:
                    host.sendall(to_host.pass_on(os.read(terminal, 65536)))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
