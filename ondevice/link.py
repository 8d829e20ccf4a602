"""The host's end of the link: every request is answered once, whatever the line does to the frames.

`docs/protocol.md` states the rules. A `Link` numbers requests, keeps as many on their way as the board's
receiver holds, sends again what is not answered in time, and tells a board that has started anew from a slow
one.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fieldtune.errors import DeviceResetError, LinkError, SilentError
from firmware_gen import protocol
from firmware_gen.protocol import Message, Refusal
from ondevice.frames import Deframer, Frame, encode_frame, encoded_size
from ondevice.port import Port
from ondevice.timing import DEFAULT_TIMING, Delay, Timing

_FIRST_WINDOW = 64
"""Encoded bytes on their way while the board's window is not known: room for a HELLO."""

_QUIET_S = 0.05
_DRAIN_S = 1.0
_MOST_TRIES = 60
_OVERTAKEN = 2
"""A frame that so many later ones have overtaken is taken for lost before its time is up."""

_EPOCH_REQUESTS = 8192
"""Most requests in an epoch: a quarter of what 16 bits number, so that old and new are never confused."""


@dataclass(frozen=True)
class Request:
    """One request: what and with which values."""

    message: Message
    values: dict[str, Any] = field(default_factory=dict)
    reply_bytes: int = 0  # expected payload of the reply


class RefusedError(LinkError):
    """The board refuses a request; `refusal` is None when its code is unknown."""

    def __init__(self, message: Message, refusal: Refusal | None, code: int, detail: int) -> None:
        self.refusal = refusal
        self.detail = detail
        why = refusal.sentence.format(detail=detail) if refusal else f"error {code} ({detail})"
        super().__init__(f"the board refuses {message.name}: {why}; {_remedy(refusal)}")


def _remedy(refusal: Refusal | None) -> str:
    if refusal in (None, protocol.BAD_PROTOCOL, protocol.UNKNOWN_TYPE, protocol.BAD_LENGTH):
        return "build and flash its firmware anew with this version of Fieldtune"
    if refusal is protocol.NOT_TRAINABLE:
        return "build and flash a firmware with --update"
    if refusal is protocol.WRONG_STEP:
        return "write weights and state of the step to continue from, and set its number"
    if refusal is protocol.NO_STORE:
        return "docs/add_a_board.md tells what a port needs for it"
    if refusal is protocol.STORE_TOO_SMALL:
        return "let fewer layers learn"
    if refusal is protocol.NOTHING_STORED:
        return "'fieldtune weights show' tells what its slots hold"
    if refusal is protocol.FLASH_FAILED:
        return "what was stored before is still there; save again, and replace the part if that fails too"
    if refusal is protocol.NO_BUFFER:
        return "build and flash a firmware with --buffer"
    if refusal is protocol.NO_SENSORS:
        return "take a board whose port has a camera and a depth sensor"
    if refusal is protocol.AT_WORK:
        return "ask how far it is with 'fieldtune alone --ask', or end that with --stop"
    if refusal is protocol.NOTHING_NEW:
        return "ask again when they have"
    return "check that plan.json belongs to the firmware on the board"


@dataclass
class _Pending:
    """A request that is on its way."""

    index: int
    request: Request
    seq: int
    data: bytes
    cost: int  # bytes of the window that it takes
    wait: float = 0.0  # for its answer, from when it was sent or the one before it answered
    sent: float = 0.0
    tries: int = 0
    overtaken: int = 0
    busy_since: float | None = None


class Link:
    """Requests to the board at `url` and its answers.

    Attributes:
        url: as given to :meth:`__init__`.
        epoch: number of commands so far. Frames of an epoch may overtake each other, epochs never mix.
        resent_frames: requests sent more than once, since the link was made.
    """

    def __init__(
        self,
        url: str,
        baud: int = 115200,
        log: Callable[[str], None] | None = None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        """Open the port; nothing is sent before :meth:`hello`.

        Args:
            url: device, or URL for pyserial (socket://HOST:PORT).
            baud: bits a second, where the port has such a thing.
            log: takes each line that the board prints.
            timing: how long to wait.

        Raises:
            LinkError: the port cannot be opened.
        """
        self.url = url
        self.epoch = 0
        self.resent_frames = 0
        self._baud = baud
        self._timing = timing
        self._log = log or (lambda line: None)
        self._deframer = Deframer(self._log)
        self._delays = {message.name: Delay(timing) for message in protocol.REQUESTS}
        self._compute: dict[str, float] = {}  # longest time that a long command took, by name
        # Both begin anywhere, so that no earlier process's frames can be taken for this one's.
        self._seq = int.from_bytes(os.urandom(2), "little")
        self._session = int.from_bytes(os.urandom(4), "little") or 1
        self._window = _FIRST_WINDOW
        self._epoch_requests = 0
        self._unsettled = False  # requests were abandoned that may still arrive
        self._heard = 0.0  # when the board last said anything
        self._progress = 0.0  # when it last answered
        self._port: Port | None = Port(url, baud)

    @property
    def bad_frames(self) -> int:
        """Frames that arrived damaged."""
        return self._deframer.bad_frames

    def close(self) -> None:
        """Close the port; closing twice does no harm."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def reopen(self) -> None:
        """Open the same port again, after :meth:`close` or a pulled cable; :meth:`hello` must follow.

        Raises:
            LinkError: it cannot be opened (yet).
        """
        self.close()
        self._port = Port(self.url, self._baud)
        self._session = _next_session(self._session)

    def hello(self) -> dict[str, Any]:
        """Open a session and return the board's description of itself, the fields of HELLO's reply.

        Raises:
            LinkError: no answer, or another version of the protocol.
        """
        self._drain()
        self._window = _FIRST_WINDOW
        self._open_port().write(b"\0")  # ends whatever half a frame the board has
        for _ in range(3):
            try:
                reply = self._exchange([self._hello_request()])[0]
            except RefusedError as refused:
                if refused.refusal is not protocol.OLD_SESSION:
                    raise
                self._session = _next_session(refused.detail)
                continue
            self._window = reply["window"]
            self._begin_epoch()
            return reply
        raise LinkError(f"the board at {self.url} is in use by another host; close that one")

    def _drain(self) -> None:
        """Hear out what an earlier conversation has left, until nothing comes; text goes to the log."""
        end = time.monotonic() + _DRAIN_S
        while time.monotonic() < end and (data := self._open_port().read(_QUIET_S)):
            list(self._deframer.feed(data))
        self._deframer.flush()

    def _hello_request(self) -> Request:
        return Request(protocol.HELLO, {"protocol": protocol.PROTOCOL_VERSION, "session": self._session})

    def command(self, message: Message, **values: Any) -> dict[str, Any]:
        """Have the board run a command exactly once and return the fields of its reply.

        Raises:
            DeviceResetError: the board has started anew.
            LinkError: it refuses, or does not answer any more.
        """
        self._settle()
        reply = self._exchange([Request(message, values)])[0]
        self._begin_epoch()
        return reply

    def exchange(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Send requests that are no commands, several on their way at once; return the replies in order.

        They may reach the board in any order and more than once: no two of an epoch may write the same bytes.

        Raises:
            DeviceResetError: the board has started anew.
            LinkError: it refuses one, or does not answer any more.
        """
        self._settle()
        replies: list[dict[str, Any]] = []
        for start in range(0, len(requests), _EPOCH_REQUESTS):
            part = requests[start : start + _EPOCH_REQUESTS]
            if self._epoch_requests + len(part) > _EPOCH_REQUESTS:
                self.sync()
            replies += self._exchange(part)
        return replies

    def sync(self) -> None:
        """Begin a new epoch: what of the old one is still on its way has no effect any more."""
        self._exchange([Request(protocol.SYNC)])
        self._begin_epoch()

    def _settle(self) -> None:
        if self._unsettled:
            self.sync()

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self._epoch_requests = 0
        self._unsettled = False

    # --- one exchange

    def _exchange(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        self._unsettled = True
        self._epoch_requests += len(requests)
        self._heard = time.monotonic()
        waiting = [self._number(index, request) for index, request in enumerate(requests)]
        waiting.reverse()
        flying: dict[int, _Pending] = {}  # by seq, in the order of sending
        replies: list[dict[str, Any] | None] = [None] * len(requests)
        while waiting or flying:
            self._fill_window(waiting, flying)
            for frame in self._receive(min(self._due(pending) for pending in flying.values())):
                self._take(frame, flying, replies)
            self._repeat_late(flying)
        self._unsettled = False
        return [reply for reply in replies if reply is not None]

    def _number(self, index: int, request: Request) -> _Pending:
        self._seq = (self._seq + 1) & 0xFFFF
        payload = request.message.request.pack(**request.values)
        data = encode_frame(Frame(request.message.code, self._seq, payload))
        cost = max(len(data), encoded_size(request.reply_bytes))
        return _Pending(index, request, self._seq, data, cost)

    def _fill_window(self, waiting: list[_Pending], flying: dict[int, _Pending]) -> None:
        used = sum(pending.cost for pending in flying.values())
        batch = []
        while waiting and (not flying or used + waiting[-1].cost <= self._window):
            pending = waiting.pop()
            used += pending.cost
            flying[pending.seq] = pending
            batch.append(pending)
        self._send(batch)

    def _send(self, batch: Iterable[_Pending]) -> None:
        batch = list(batch)
        if not batch:
            return
        self._open_port().write(b"".join(pending.data for pending in batch))
        now = time.monotonic()
        for pending in batch:
            if pending.busy_since is None:
                pending.wait = self._delays[pending.request.message.name].wait
            pending.sent = now
            pending.tries += 1
            pending.overtaken = 0

    def _due(self, pending: _Pending) -> float:
        return max(pending.sent, self._progress) + pending.wait

    def _receive(self, due: float) -> list[Frame]:
        data = self._open_port().read(due - time.monotonic())
        # Without the reply bit it is an echo of what this host has sent.
        frames = [frame for frame in self._deframer.feed(data) if frame.type & protocol.REPLY]
        if frames:
            self._heard = time.monotonic()
        return frames

    def _take(self, frame: Frame, flying: dict[int, _Pending], replies: list[dict[str, Any] | None]) -> None:
        if frame.type == protocol.LOG.code:
            self._log(protocol.LOG.reply.unpack(frame.payload)["text"])
            return
        pending = flying.get(frame.seq)
        if pending is None:
            return  # a second answer to a request that was sent twice
        message = pending.request.message
        if frame.type == protocol.BUSY.code:
            self._mark_busy(pending)
        elif frame.type == protocol.ERROR.code:
            self._raise_refusal(message, frame.payload)
        elif frame.type == message.reply_code:
            replies[pending.index] = message.reply.unpack(frame.payload)
            self._measure(pending)
            self._mark_overtaken(pending, flying)
            self._progress = self._heard
            del flying[frame.seq]

    def _mark_busy(self, pending: _Pending) -> None:
        if pending.busy_since is None:
            name = pending.request.message.name
            if pending.tries == 1:
                self._delays[name].add(self._heard - pending.sent)
            pending.busy_since = self._progress = self._heard
            known = self._compute.get(name)
            pending.wait = self._timing.computing_check if known is None else 3 * known + self._timing.first

    def _measure(self, pending: _Pending) -> None:
        name = pending.request.message.name
        if pending.busy_since is not None:
            # Sent again since BUSY, the first reply may have been lost: the time says nothing.
            if pending.sent <= pending.busy_since:
                took = self._heard - pending.busy_since
                self._compute[name] = max(self._compute.get(name, 0.0), took)
        elif pending.tries == 1 and not pending.request.message.long:
            self._delays[name].add(self._heard - max(pending.sent, self._progress))

    @staticmethod
    def _mark_overtaken(answered: _Pending, flying: dict[int, _Pending]) -> None:
        for pending in flying.values():
            if pending.sent < answered.sent or (
                pending.sent == answered.sent and pending.index < answered.index
            ):
                pending.overtaken += 1

    def _repeat_late(self, flying: dict[int, _Pending]) -> None:
        now = time.monotonic()
        overdue = [pending for pending in flying.values() if now >= self._due(pending)]
        overtaken = [p for p in flying.values() if p.overtaken >= _OVERTAKEN and p not in overdue]
        for pending in overdue:
            self._check_patience(pending, now)
            pending.wait *= 2
        for name in {pending.request.message.name for pending in overdue}:
            self._delays[name].back_off()
        self.resent_frames += len(overdue) + len(overtaken)
        self._send(overdue + overtaken)

    def _check_patience(self, pending: _Pending, now: float) -> None:
        timing, message = self._timing, pending.request.message
        if pending.busy_since is not None:
            since, limit = pending.busy_since, timing.computing
        else:
            since, limit = self._heard, timing.long_unheard if message.long else timing.silence
        hopeless = pending.busy_since is None and pending.tries >= _MOST_TRIES
        if hopeless or now - since > limit:
            self._deframer.flush()
            raise SilentError(
                f"no answer to {message.name} from {self.url} for {now - since:.0f} s; reset the board, and "
                f"check that it runs Fieldtune's firmware and that {self._baud} baud is its speed"
            )

    def _raise_refusal(self, message: Message, payload: bytes) -> None:
        error = protocol.ERROR.reply.unpack(payload)
        refusal = next((r for r in protocol.REFUSALS if r.code == error["code"]), None)
        if refusal is protocol.NO_SESSION:
            raise DeviceResetError(
                f"the board at {self.url} has started anew and lost what it had learned; "
                "continue with --resume"
            )
        raise RefusedError(message, refusal, error["code"], error["detail"])

    def _open_port(self) -> Port:
        if self._port is None:
            raise LinkError(f"the link to {self.url} is closed; open it again")
        return self._port


def _next_session(session: int) -> int:
    return (session + 1) & 0xFFFFFFFF or 1
