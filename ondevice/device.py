"""What can be done with a board: put samples, infer, train, read and write tensors."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import BoardError, DeviceResetError, LinkError, OtherFirmwareError, UserError
from firmware_gen import protocol
from firmware_gen.bf16 import from_bf16, to_bf16
from firmware_gen.protocol import Role
from ondevice.link import Link, RefusedError, Request
from ondevice.timing import DEFAULT_TIMING, Timing

Array = NDArray[Any]

SAMPLE_ROLES: tuple[Role, ...] = ("input", "latent", "label", "mask")
_DTYPES = {"f32": "<f4", "u8": "u1", "i8": "i1", "i32": "<i4", "bits": "u1", "bf16": "<f4", "i16": "<i2"}
_RETRY_OPEN_S = 0.1


@dataclass(frozen=True)
class Hello:
    """What the board says of itself when a session begins: see HELLO in docs/protocol.md."""

    protocol: int
    max_payload: int
    window: int
    tensor_count: int
    loss_count: int
    trainable: bool
    model_hash: int
    plan_hash: int
    step: int
    ticks_hz: int
    store_room: int
    restored: bool
    model: str


@dataclass(frozen=True)
class TensorInfo:
    """One tensor on the board. `array_shape` and `array_dtype` are those of its numpy array.

    The array of a ``bits`` tensor is its packed bytes: uint8 (bytes,), eight values a byte, first in bit 0.
    That of a ``bf16`` tensor is float32: exact when read, rounded to the nearest when written.
    """

    index: int
    name: str
    role: Role
    dtype: str
    shape: tuple[int, int, int]
    bytes: int

    @property
    def array_dtype(self) -> np.dtype[Any]:
        """Little endian; as on the board, but for bf16."""
        return np.dtype(_DTYPES[self.dtype])

    @property
    def array_shape(self) -> tuple[int, ...]:
        """(height, width, channels), or (bytes,) for ``bits`` and the arena."""
        return (self.bytes,) if self.dtype == "bits" or self.role == "arena" else self.shape


@dataclass(frozen=True)
class Hyper:
    """Hyperparameters of a training step."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 0.0  # 0: gradients are not clipped
    accumulate: int = 1  # samples an update
    beta1: float = 0.9  # of Adam, as the two that follow
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True)
class StepResult:
    """A training step or a piece of one: losses before the update, and what it took in the board's ticks."""

    step: int
    losses: tuple[float, ...]
    ticks: int


@dataclass(frozen=True)
class Memory:
    """What the firmware used so far; `stack_bytes` 0 means unknown."""

    stack_bytes: int
    stack_used: int
    arena_intact: bool
    rx_overruns: int
    bad_frames: int


class Device:
    """A board in a session. `Device.open` makes one; it is a context manager.

    Every method may raise LinkError (the cable, the port) and DeviceResetError (the board has started anew,
    and what it had learned is lost); after either, :meth:`reconnect` opens another session.

    Attributes:
        link: the link below, with its counters `resent_frames` and `bad_frames`.
        hello: the board's description of itself.
        tensors: every tensor on the board, by name.
        arena: the memory that the steps of an inference compute in.
    """

    def __init__(self, link: Link, initial: Mapping[str, Array] | None = None) -> None:
        """Use `Device.open`."""
        self.link = link
        self._initial = initial
        self._written: dict[int, int] = {}  # tensor index -> the link's epoch when it was last written
        self.hello = self._say_hello()
        table = self._read_table()
        self.tensors = {info.name: info for info in table if info.role != "arena"}
        self.arena = next(info for info in table if info.role == "arena")

    @classmethod
    def open(
        cls,
        url: str,
        *,
        baud: int = 115200,
        plan_hash: int | None = None,
        log: Callable[[str], None] | None = None,
        timing: Timing = DEFAULT_TIMING,
        initial: Mapping[str, Array] | None = None,
    ) -> Self:
        """Open the port, begin a session and learn the board's tensors.

        Args:
            url: device, or URL for pyserial (socket://HOST:PORT).
            baud: bits a second, where the port has such a thing.
            plan_hash: of the firmware that should be there.
            log: takes each line that the board prints.
            timing: how long to wait for answers.
            initial: the first values of what learns, of its state and its ranges, for firmware that keeps
                none (`firmware_gen.plan.keeps_initial`).

        Raises:
            LinkError: the port cannot be opened, or nothing there speaks the protocol.
            BoardError: the firmware was built from another plan.
        """
        link = Link(url, baud, log, timing)
        try:
            device = cls(link, initial)
            if plan_hash is not None and device.hello.plan_hash != plan_hash:
                raise OtherFirmwareError(
                    f"the board at {url} runs {device.hello.model} with plan {device.hello.plan_hash:08x}, "
                    f"not {plan_hash:08x}; build and flash the firmware of this plan"
                )
        except BaseException:
            link.close()
            raise
        return device

    def close(self) -> None:
        """Close the port. The board keeps what it has learned until it starts anew."""
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def reconnect(self, wait: float = 0.0) -> Hello:
        """Open the same port again and begin another session.

        The board keeps weights, state and the number of steps done, unless it has started anew: then in what
        this returns `step` is 0, or `restored` is true because it has taken the newest set of its flash.

        Args:
            wait: seconds in which the port may come back.

        Raises:
            LinkError: the port does not come back, or nothing there speaks the protocol.
            BoardError: another firmware runs there now.
        """
        end = time.monotonic() + wait
        while True:
            try:
                self.link.reopen()
                break
            except LinkError:
                if time.monotonic() >= end:
                    raise
                time.sleep(_RETRY_OPEN_S)
        hello = self._say_hello()
        if (hello.model_hash, hello.plan_hash) != (self.hello.model_hash, self.hello.plan_hash):
            raise BoardError(
                f"the board at {self.link.url} runs another firmware now ({hello.model}, plan "
                f"{hello.plan_hash:08x}); plug the first board in again"
            )
        self.hello = hello
        return hello

    # --- tensors

    def names(self, *roles: Role) -> list[str]:
        """Names of the tensors of these roles, in the board's order."""
        return [name for name, info in self.tensors.items() if info.role in roles]

    def read_tensor(self, name: str) -> Array:
        """Values of one tensor: `array_shape`, `array_dtype` of its TensorInfo."""
        return self.read_tensors([name])[name]

    def read_role(self, *roles: Role) -> dict[str, Array]:
        """All tensors of these roles, by name."""
        return self.read_tensors(self.names(*roles))

    def read_tensors(self, names: list[str]) -> dict[str, Array]:
        """These tensors, by name, in one go."""
        infos = [self._info(name) for name in names]
        reads = [self._reads(info, 0, info.bytes) for info in infos]
        pieces = iter(self.link.exchange([request for requests in reads for request in requests]))
        return {info.name: self._join(info, pieces) for info in infos}

    def write_tensor(self, name: str, array: Array) -> None:
        """Set an input, latent, label, mask, weight, state or range.

        Raises:
            UserError: no such tensor, or the array's dtype or shape differ from `array_dtype`, `array_shape`.
        """
        self.write_tensors({name: array})

    def write_tensors(self, arrays: Mapping[str, Array]) -> None:
        """Set several tensors in one go; see :meth:`write_tensor`."""
        requests: list[Request] = []
        for name, array in arrays.items():
            requests += self._writes(self._info(name), array)
        # Frames of an epoch may overtake each other: what is written twice needs two epochs.
        indices = [self.tensors[name].index for name in arrays]
        if any(self._written.get(index) == self.link.epoch for index in indices):
            self.link.sync()
        self.link.exchange(requests)
        self._written.update(dict.fromkeys(indices, self.link.epoch))

    def read_part(self, name: str, index: int) -> Array:
        """Values of one tensor at `index` of its first axis."""
        info = self._info(name)
        size = info.bytes // info.shape[0]
        replies = self.link.exchange(self._reads(info, index * size, size))
        data = b"".join(reply["data"] for reply in replies)
        return np.frombuffer(bytearray(data), info.array_dtype).reshape(info.array_shape[1:])

    def write_part(self, name: str, index: int, array: Array) -> None:
        """Set one tensor at `index` of its first axis.

        Raises:
            UserError: no such tensor, or the array's dtype or shape differ from `array_dtype`, `array_shape`.
        """
        info = self._info(name)
        if array.dtype != info.array_dtype or array.shape != info.array_shape[1:]:
            raise UserError(
                f"{name} takes {info.array_dtype.name} of shape {info.array_shape[1:]} at each place, "
                f"not {array.dtype.name} of shape {array.shape}"
            )
        self.link.sync()
        self.link.exchange(list(self._pieces(info, array.tobytes(), index * array.nbytes)))

    def put_sample(self, sample: Mapping[str, Array]) -> None:
        """Set the inputs, labels and masks of the next inference or step; what is left out stays.

        Latents are set for a step that begins behind the parts that make them: see :meth:`step`.

        Raises:
            UserError: a name is none of an input, latent, label or mask, or an array does not fit.
        """
        for name in sample:
            if self._info(name).role not in SAMPLE_ROLES:
                raise UserError(
                    f"{name} is no part of a sample; the board has {', '.join(self.names(*SAMPLE_ROLES))}"
                )
        self.write_tensors(sample)

    # --- computing

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs for these inputs, by name.

        Those that the model has in floats and the board in integers are made floats here; `read_tensor`
        tells what the board has.

        Raises:
            UserError: an array does not fit.
        """
        self.put_sample(inputs)
        self.run_inference()
        found = self.read_role("output", "grid")
        outputs = {name: found[name] for name in self.names("output")}
        for name in outputs:
            scale, zero_point = (found.get(f"grid.{name}.{part}") for part in ("scale", "zero_point"))
            if scale is not None and zero_point is not None:
                outputs[name] = (outputs[name].astype(np.int32) - zero_point).astype(np.float32) * scale
        return outputs

    def run_inference(self, first: int = 0, end: int = protocol.ALL_STEPS) -> int:
        """Compute the outputs from the inputs as they are; return the ticks that it took.

        An inference may be run in pieces: the plan's forward steps from `first` to before `end`, then those
        after them. Between two pieces only :meth:`read_arena` may be called.
        """
        return int(self.link.command(protocol.INFER, first=first, end=end)["ticks"])

    def read_arena(self, offset: int, count: int) -> bytes:
        """Read `count` bytes of the arena.

        Raises:
            RefusedError: they do not all lie in the arena.
        """
        replies = self.link.exchange(self._reads(self.arena, offset, count))
        return b"".join(reply["data"] for reply in replies)

    def step(self, index: int, first: int = 0, end: int = protocol.ALL_STEPS) -> StepResult:
        """Train on the sample that was put; `index` counts from 0 and must be the number of steps done.

        The last step may be asked for again, also after :meth:`reconnect`: it is not run twice, its result is
        told again.

        With latents in the sample the step is the parts from `first`, the plan's `latent_step`, to the end.

        To look at a training step, it may be run in pieces, in their order: the parts from `first` to before
        `end` (`firmware_gen.step_parts`). It is done when the last part has run. Between two pieces only
        :meth:`read_arena` may be called, and a piece that is asked for after :meth:`reconnect` runs again.

        Raises:
            RefusedError: the board has done another number of steps, or only infers.
        """
        return StepResult(**self.link.command(protocol.STEP, step=index, first=first, end=end))

    def set_hyper(self, hyper: Hyper) -> None:
        """Set the hyperparameters of the steps to come.

        Raises:
            UserError: one is negative or not finite, or a beta 1 or more.
        """
        values = vars(hyper)
        for name, value in values.items():
            if name.startswith("beta") and np.float32(value) >= 1:
                raise UserError(f"{name} cannot be {value}; give a number below 1")
            if not (math.isfinite(value) and value >= 0) or (name == "accumulate" and value < 1):
                raise UserError(f"{name} cannot be {value}; give a number that is not negative")
        self.link.command(protocol.HYPER, **values)

    def reset_weights(self) -> None:
        """Back to the initial weights, without optimizer state, at step 0.

        Raises:
            RefusedError: neither the board has them nor was `initial` given when it was opened.
        """
        try:
            self.link.command(protocol.RESET_WEIGHTS)
        except RefusedError as refused:
            if refused.refusal is not protocol.NO_INITIAL or self._initial is None:
                raise
            self.write_tensors(self._initial)
            self.set_step(0)

    def set_step(self, step: int) -> None:
        """Say how many steps the weights and the state that were written have behind them."""
        self.link.command(protocol.SET_STEP, step=step)

    def memory(self) -> Memory:
        """What the firmware used so far."""
        reply = self.link.command(protocol.MEMORY)
        reply["arena_intact"] = bool(reply["arena_intact"])
        return Memory(**reply)

    def reboot(self, wait: float = 10.0) -> Hello:
        """Start the board anew and open another session; `wait` as for :meth:`reconnect`."""
        # It has when the first reply was lost and the question repeated.
        with contextlib.suppress(DeviceResetError):
            self.link.command(protocol.REBOOT)
        return self.reconnect(wait)

    # --- pieces

    def _say_hello(self) -> Hello:
        fields = self.link.hello()
        self._written.clear()
        flags = {name: bool(fields[name]) for name in ("trainable", "restored")}
        return Hello(**{**fields, **flags})

    def _read_table(self) -> list[TensorInfo]:
        count = self.hello.tensor_count
        requests = [Request(protocol.TENSOR, {"index": index}, 64) for index in range(count)]
        table = [_tensor_info(index, reply) for index, reply in enumerate(self.link.exchange(requests))]
        if sum(info.role == "arena" for info in table) != 1:
            raise LinkError("the board does not tell where its arena is; build its firmware anew")
        return table

    def _info(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise UserError(f"the board has no tensor {name}; it has {', '.join(self.tensors)}") from None

    def _reads(self, info: TensorInfo, first: int, count: int) -> list[Request]:
        piece = self.hello.max_payload
        sizes = {at: min(piece, first + count - at) for at in range(first, first + count, piece)}
        return [
            Request(protocol.READ, {"tensor": info.index, "offset": at, "count": size}, size)
            for at, size in sizes.items()
        ]

    def _join(self, info: TensorInfo, replies: Iterator[dict[str, Any]]) -> Array:
        return _decode(info, b"".join(next(replies)["data"] for _ in self._reads(info, 0, info.bytes)))

    def _writes(self, info: TensorInfo, array: Array) -> Iterator[Request]:
        if array.dtype != info.array_dtype or array.shape != info.array_shape:
            raise UserError(
                f"{info.name} takes {info.array_dtype.name} of shape {info.array_shape}, "
                f"not {array.dtype.name} of shape {array.shape}"
            )
        yield from self._pieces(info, _encode(info, array), 0)

    def _pieces(self, info: TensorInfo, data: bytes, first: int) -> Iterator[Request]:
        piece = self.hello.max_payload - protocol.WRITE.request.fixed_size
        for offset in range(0, len(data), piece):
            part = data[offset : offset + piece]
            yield Request(protocol.WRITE, {"tensor": info.index, "offset": first + offset, "data": part})


def _decode(info: TensorInfo, data: bytes) -> Array:
    """Return the array of the board's bytes; it can be written to."""
    if info.dtype == "bf16":
        return from_bf16(np.frombuffer(data, "<u2")).reshape(info.array_shape)
    return np.frombuffer(bytearray(data), info.array_dtype).reshape(info.array_shape)


def _encode(info: TensorInfo, array: Array) -> bytes:
    return to_bf16(array).astype("<u2").tobytes() if info.dtype == "bf16" else array.tobytes()


def _tensor_info(index: int, reply: Mapping[str, Any]) -> TensorInfo:
    if reply["role"] >= len(protocol.ROLES) or reply["dtype"] >= len(protocol.DTYPES):
        raise LinkError(f"the board's tensor {reply['name']} is of an unknown kind; build its firmware anew")
    role, dtype = protocol.ROLES[reply["role"]], protocol.DTYPES[reply["dtype"]]
    info = TensorInfo(index, reply["name"], role, dtype, reply["shape"], reply["bytes"])
    item = 2 if info.dtype == "bf16" else info.array_dtype.itemsize
    if math.prod(info.array_shape) * item != info.bytes:
        raise LinkError(
            f"the board's tensor {info.name} has {info.bytes} bytes but shape {info.shape}; "
            "build its firmware anew"
        )
    return info
