"""The link's message table: the one place that says what host and board tell each other.

The host packs and unpacks payloads with it; `protocol_header.py` prints it as ``runtime/link/protocol.h``,
which the firmware library compiles against. `docs/protocol.md` states the rules of the exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from firmware_gen.payloads import NOTHING, Field, Payload

PROTOCOL_VERSION: Final = 5
REPLY: Final = 0x80
"""A reply's type is its request's type with this bit set; the board alone sends types with this bit."""

MAX_PAYLOAD: Final = 1024
LEAST_PAYLOAD: Final = 64
"""Largest payload of a frame, in bytes, unless a project is generated with another."""

MAX_LOSSES: Final = 8
"""Losses that a STEP reply has room for, unless a project is generated with another number."""

FRAME_OVERHEAD: Final = 7
"""Bytes of a frame besides its payload, before COBS: type u8, seq u16, crc32 u32."""

ALL_STEPS: Final = 0xFFFFFFFF
"""`end` of an INFER or STEP that runs to the end."""

Role = Literal[
    "input",
    "label",
    "mask",
    "output",
    "weight",
    "state",
    "gradient",
    "arena",
    "range",
    "latent",
    "field",
    "grid",
]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
DTYPES: Final = ("f32", "u8", "i8", "i32", "bits", "bf16", "i16")
"""Names of ft_role_t and ft_dtype_t in ``runtime/model_api.h``, in their order."""

SLOT_STATES: Final = ("empty", "broken", "foreign", "older", "newest")
"""Names of ft_slot_state_t in ``runtime/link/store.h``, in their order."""


@dataclass(frozen=True)
class Message:
    """One row of the table.

    A `command` changes something or takes long: the host sends one at a time and the board runs each once.
    The others say the same thing however often they arrive, so several may be on their way at once. The board
    announces a `long` command with BUSY.
    """

    name: str
    code: int
    meaning: str
    request: Payload = NOTHING
    reply: Payload = NOTHING
    command: bool = True
    long: bool = False

    @property
    def reply_code(self) -> int:
        """Type of the reply's frame."""
        return self.code | REPLY


def _fields(*fields: tuple[str, str, str]) -> Payload:
    return Payload(tuple(Field(*field) for field in fields))


HELLO = Message(
    "hello",
    0x01,
    "Opens a session. Changes nothing else on the board.",
    _fields(
        ("protocol", "u16", "version that the host speaks"),
        ("session", "u32", "number of the session, newer than the board's last"),
    ),
    _fields(
        ("protocol", "u16", "version that the board speaks"),
        ("max_payload", "u16", "largest payload either side may send"),
        ("window", "u16", "encoded bytes of requests that may be without an answer"),
        ("tensor_count", "u16", "tensors that TENSOR describes"),
        ("loss_count", "u16", "losses in a STEP reply"),
        ("trainable", "u8", "0: the firmware only infers"),
        ("model_hash", "u32", "of the network"),
        ("plan_hash", "u32", "of the memory plan"),
        ("step", "u32", "number of training steps done"),
        ("ticks_hz", "u32", "ticks a second, 0: unknown"),
        ("store_room", "u32", "bytes of weights that a slot of the board's flash holds, 0: it has none"),
        ("restored", "u8", "1: weights come from such a slot, by LOAD or at start; 0 after RESET_WEIGHTS"),
        ("model", "text", "name of the network"),
    ),
)
TENSOR = Message(
    "tensor",
    0x02,
    "Describes one tensor.",
    _fields(("index", "u16", "from 0 to tensor_count - 1")),
    _fields(
        ("role", "u8", "ft_role_t"),
        ("dtype", "u8", "ft_dtype_t"),
        ("shape", "u16[3]", "height, width, channels; 0, 0, 0 for the arena"),
        ("bytes", "u32", "size"),
        ("name", "text", "name, as in plan.json"),
    ),
    command=False,
)
WRITE = Message(
    "write",
    0x03,
    "Writes a piece of an input, latent, label, mask, weight, state, range or of the sample buffer.",
    _fields(
        ("tensor", "u16", "index"),
        ("offset", "u32", "of the first byte"),
        ("data", "bytes", "what to write there"),
    ),
    command=False,
)
READ = Message(
    "read",
    0x04,
    "Reads a piece of any tensor.",
    _fields(
        ("tensor", "u16", "index"),
        ("offset", "u32", "of the first byte"),
        ("count", "u16", "bytes, at most max_payload"),
    ),
    _fields(("data", "bytes", "count bytes")),
    command=False,
)
INFER = Message(
    "infer",
    0x10,
    "Computes the outputs from the inputs, or runs some of the steps that do.",
    _fields(
        ("first", "u32", "first step to run, counted from 0"),
        ("end", "u32", "step before which to stop; what lies behind the last is the end"),
    ),
    _fields(("ticks", "u64", "what it took")),
    long=True,
)
STEP = Message(
    "step",
    0x11,
    "Trains on the sample that was written, or runs a piece of that. Only when `step` steps are done.",
    _fields(
        ("step", "u32", "index of this training step"),
        ("first", "u32", "first of its parts to run, counted from 0; a step from latents begins behind them"),
        ("end", "u32", "part before which to stop; after the last the training step is done"),
    ),
    _fields(
        ("step", "u32", "index of this step"),
        ("ticks", "u64", "what it took"),
        ("losses", "f32[]", "loss_count losses, before the update; those of pieces not yet run mean nothing"),
    ),
    long=True,
)
HYPER = Message(
    "hyper",
    0x12,
    "Sets the hyperparameters of the steps to come.",
    _fields(
        ("lr", "f32", "learning rate; 0 after a restart"),
        ("momentum", "f32", ""),
        ("weight_decay", "f32", ""),
        ("clip_norm", "f32", "0: gradients are not clipped"),
        ("beta1", "f32", "of Adam, as the two that follow"),
        ("beta2", "f32", ""),
        ("eps", "f32", "1e-8 after a restart"),
        ("accumulate", "u32", "samples an update, at least 1"),
    ),
)
RESET_WEIGHTS = Message(
    "reset_weights",
    0x13,
    "Initial weights, zero optimizer state, step 0; refused with no_initial where these are not kept.",
)
SET_STEP = Message(
    "set_step",
    0x14,
    "Sets the number of steps done, after weights and state were written.",
    _fields(("step", "u32", "steps done")),
)
MEMORY = Message(
    "memory",
    0x15,
    "What the firmware used so far.",
    reply=_fields(
        ("stack_bytes", "u32", "size of the stack, 0: unknown"),
        ("stack_used", "u32", "most that was ever used"),
        ("arena_intact", "u8", "0: something wrote outside the arena"),
        ("rx_overruns", "u32", "bytes that the receiver lost"),
        ("bad_frames", "u32", "frames that arrived damaged"),
    ),
)
SAVE = Message(
    "save",
    0x18,
    "Stores weights, ranges and the number of steps in flash, in place of the older of two sets.",
    reply=_fields(("sequence", "u32", "number of the save")),
    long=True,
)
LOAD = Message(
    "load",
    0x19,
    "Takes a stored set: RESET_WEIGHTS, then its weights, ranges and number of steps.",
    _fields(("older", "u8", "0: the newest set, 1: the one before")),
    _fields(("sequence", "u32", "number of its save"), ("step", "u32", "number of training steps behind it")),
    long=True,
)
ERASE = Message("erase", 0x1A, "Erases both sets. What is in RAM stays.", long=True)
KEEP = Message(
    "keep",
    0x1B,
    "SAVE if these weights have the smaller loss, else LOAD, or RESET_WEIGHTS where nothing is stored.",
    _fields(
        ("before", "f32", "mean loss of what LOAD brings, or of the initial weights"),
        ("after", "f32", "mean loss of the weights as they are"),
    ),
    _fields(
        ("saved", "u8", "1: these weights are kept, 0: the board is back at the others"),
        ("sequence", "u32", "number of the save that is in place now, 0: initial weights"),
        ("step", "u32", "number of training steps behind them"),
    ),
    long=True,
)
SLOT = Message(
    "slot",
    0x05,
    "Describes what one of the two slots holds.",
    _fields(("index", "u8", "0 or 1")),
    _fields(
        ("state", "u8", "ft_slot_state_t: 0 empty, 1 broken, 2 another model's or plan's, 3 older, 4 newest"),
        ("sequence", "u32", "number of the save; from here on 0 when empty or broken"),
        ("step", "u32", "number of training steps behind it"),
        ("model_hash", "u32", "of the network"),
        ("plan_hash", "u32", "of the memory plan"),
        ("bytes", "u32", "of weights and ranges"),
    ),
    command=False,
)
SYNC = Message("sync", 0x16, "Does nothing; older frames that are still on their way become stale.")
REBOOT = Message("reboot", 0x17, "Starts the board anew, after the reply.")

_FIELD_REPLY = _fields(
    ("phase", "u8", "ft_phase_t: at rest, collecting, judging before, learning, judging after, watching"),
    ("capacity", "u32", "samples that the buffer holds"),
    ("samples", "u32", "samples taken so far; number k lies in place k % capacity"),
    ("round", "u32", "rounds done since WORK, as all that follow"),
    ("improved", "u32", "rounds after which the loss on the samples set aside was less"),
    ("undone", "u32", "rounds after which it was not, and the weights from before were taken again"),
    ("learned", "u32", "training steps"),
    ("skipped", "u32", "samples passed over because no zone was valid"),
    ("before", "f32", "loss on the samples set aside, before the last round learned"),
    ("after", "f32", "and after it"),
    ("loss", "f32", "of the last training step"),
    ("drift", "f32", "of what the camera sees from what was learned from, about 1 where there is none"),
    ("watched", "u32", "pictures that were taken with the depth sensor off"),
)
TAKE = Message(
    "take", 0x20, "Takes a sample from the board's own sensors into the buffer.", reply=_FIELD_REPLY
)
SET_SAMPLES = Message(
    "set_samples",
    0x21,
    "Sets how many samples were taken, after the buffer was written.",
    _fields(("samples", "u32", "samples taken so far")),
    _FIELD_REPLY,
)
WORK = Message(
    "work",
    0x22,
    "Sets the board to work on its own, with the hyperparameters that it has. The reply comes at once.",
    _fields(
        ("rounds", "u32", "rounds to do, 0: on and on"),
        (
            "frames",
            "u32",
            "samples that a round takes from the sensors before it learns, at most the capacity",
        ),
        ("validate_every", "u32", "each of so many is set aside to judge by, 0: none"),
        ("epochs", "u32", "how often a round learns from each of the others in the buffer, at least 1"),
        ("steps", "u32", "most training steps a round, 0: no limit"),
        ("drift_on", "f32", "drift above which a board that watches collects again"),
        ("drift_off", "f32", "drift below which a round is followed by watching, 0: by the next round"),
    ),
    _FIELD_REPLY,
)
REST = Message(
    "rest", 0x23, "Ends that work; what a round changed that was not judged is undone.", reply=_FIELD_REPLY
)
FIELD = Message("field", 0x24, "What came of it.", reply=_FIELD_REPLY)

LOG = Message("log", 0xE0, "A line for the log.", reply=_fields(("text", "text", "without a line end")))
BUSY = Message("busy", 0xE1, "The command with this seq has begun and takes its time.")
ERROR = Message(
    "error",
    0xE2,
    "The request with this seq was refused.",
    reply=_fields(
        ("request", "u8", "its type"),
        ("code", "u8", "why"),
        ("detail", "u32", "a number that goes with the code"),
    ),
)

REQUESTS: Final = (
    HELLO,
    TENSOR,
    WRITE,
    READ,
    INFER,
    STEP,
    HYPER,
    RESET_WEIGHTS,
    SET_STEP,
    MEMORY,
    SYNC,
    REBOOT,
    SLOT,
    SAVE,
    LOAD,
    ERASE,
    KEEP,
    TAKE,
    SET_SAMPLES,
    WORK,
    REST,
    FIELD,
)
"""What the host may send."""

NOTICES: Final = (LOG, BUSY, ERROR)
"""What the board sends besides replies; `reply` holds the fields."""


@dataclass(frozen=True)
class Refusal:
    """Why a board refuses a request. `sentence` may show the ERROR's {detail}."""

    name: str
    code: int
    sentence: str


NO_SESSION = Refusal("no_session", 1, "it has started anew and knows of no session")
OLD_SESSION = Refusal("old_session", 2, "it is in session {detail}, which is not older")
BAD_PROTOCOL = Refusal("bad_protocol", 3, "its firmware speaks protocol {detail}")
UNKNOWN_TYPE = Refusal("unknown_type", 4, "it does not know such a request")
BAD_LENGTH = Refusal("bad_length", 5, "the payload should have {detail} bytes")
NO_TENSOR = Refusal("no_tensor", 6, "it has only {detail} tensors")
OUT_OF_RANGE = Refusal("out_of_range", 7, "the tensor has only {detail} bytes")
READ_ONLY = Refusal("read_only", 8, "a tensor of that role cannot be written")
NOT_TRAINABLE = Refusal("not_trainable", 9, "its firmware was generated without an update and only infers")
WRONG_STEP = Refusal("wrong_step", 10, "it has done {detail} steps")
BAD_VALUE = Refusal("bad_value", 11, "a value is out of range")
NO_STORE = Refusal("no_store", 12, "its port brings no flash pages that keep weights")
STORE_TOO_SMALL = Refusal("store_too_small", 13, "a slot of its flash holds only {detail} bytes of weights")
NOTHING_STORED = Refusal("nothing_stored", 14, "no such set is stored that belongs to its firmware")
FLASH_FAILED = Refusal("flash_failed", 15, "its flash did not take the data")

NO_BUFFER = Refusal("no_buffer", 16, "its firmware was generated without a sample buffer")
NO_SENSORS = Refusal("no_sensors", 17, "it has no camera and depth sensor of its own")
NOTHING_NEW = Refusal("nothing_new", 18, "its sensors have nothing new")
AT_WORK = Refusal("at_work", 19, "it is at work on its own")
NO_INITIAL = Refusal("no_initial", 20, "its firmware keeps no copy of the weights that it began with")

REFUSALS: Final = (
    NO_SESSION,
    OLD_SESSION,
    BAD_PROTOCOL,
    UNKNOWN_TYPE,
    BAD_LENGTH,
    NO_TENSOR,
    OUT_OF_RANGE,
    READ_ONLY,
    NOT_TRAINABLE,
    WRONG_STEP,
    BAD_VALUE,
    NO_STORE,
    STORE_TOO_SMALL,
    NOTHING_STORED,
    FLASH_FAILED,
    NO_BUFFER,
    NO_SENSORS,
    NOTHING_NEW,
    AT_WORK,
    NO_INITIAL,
)
