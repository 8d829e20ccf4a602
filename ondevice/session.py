"""A tuning session is a folder that outlives whatever ends the process.

Some files are written once and take their place whole: configuration, checkpoint, weights, results. The
others grow by one line at a time: the log, the curve, the index of samples. A last line without its newline
is what a kill left behind; readers pass over it and :meth:`Session.resume` removes it.

A resumed session goes back to its checkpoint: what the curve and the index say of later steps is dropped,
because these steps will be taken again.
"""

import contextlib
import csv
import io
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fieldtune.errors import FieldtuneError, UserError
from ondevice.samples import Samples
from ondevice.session_files import (
    Arrays,
    append_lines,
    damaged,
    lock_folder,
    plain,
    read_arrays,
    read_json,
    replace_lines,
    whole_lines,
    write_arrays,
    write_json,
)

_CONFIG, _PLAN, _RESULTS = "session.json", "plan.json", "results.json"
_LOG, _CURVE = "log.txt", "curve.csv"
_CHECKPOINT, _PREDICTIONS, _SEGMENTATIONS = "checkpoint.npz", "predictions.npz", "segmentations.npz"
_WEIGHTS = {"before": "weights_before.npz", "after": "weights_after.npz"}
_CHECKPOINT_STEP = "checkpoint_step"


@dataclass(frozen=True)
class Curve:
    """What `curve.csv` says of n steps with k losses."""

    loss_names: tuple[str, ...]
    step: NDArray[np.int64]  # (n,), rising, the first step is 1
    losses: NDArray[np.float64]  # (n, k); NaN where a step's sample had no label
    seconds: NDArray[np.float64]  # (n,), what the step took
    resent: NDArray[np.int64]  # (n,), frames sent again during the step


@dataclass(frozen=True)
class Checkpoint:
    """Weights and state on the board after `step` steps."""

    step: int
    arrays: Arrays


@dataclass(frozen=True)
class Predictions:
    """Some held-out frames; depths in metres, 0 = unknown in `truth`."""

    rgb: NDArray[np.uint8]  # (n, h, w, 3)
    truth: NDArray[np.float32]  # (n, h, w)
    before: NDArray[np.float32]  # (n, h, w)
    after: NDArray[np.float32]  # (n, h, w)


@dataclass(frozen=True)
class Segmentation:
    """A segmentation of some held-out frames: class indices, 255 = unknown in `truth`."""

    rgb: NDArray[np.uint8]  # (n, h, w, 3)
    truth: NDArray[np.uint8]  # (n, h, w)
    before: NDArray[np.uint8]  # (n, h, w)
    after: NDArray[np.uint8]  # (n, h, w)


class Session:
    """A session's folder: :meth:`create` and :meth:`resume` write to it, :meth:`open` only reads.

    A session that writes locks its folder until it is closed, so that no two processes write at once.
    """

    def __init__(self, path: Path, config: dict[str, Any], lock: int | None = None) -> None:
        """Use `create`, `open` or `resume`."""
        self.path = path
        self.config = config
        self._lock = lock
        self._samples = Samples(path, "samples")
        self._latents = Samples(path, "latents")
        self._log_start = time.monotonic() - (0.0 if lock is None else _last_log_time(path / _LOG))

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> Self:
        """Begin a session in the folder `path`, which is made if it is not there.

        Args:
            path: folder; it may hold other files but no session.
            config: what the session is about (model, board, hashes, options), anything that JSON can say.

        Raises:
            UserError: the folder holds a session already, or cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot use {path} as a session's folder: {error.strerror}") from error
        with _closed_on_error(lock_folder(path)) as lock:
            if any((path / name).exists() for name in (_CONFIG, _LOG, _CURVE, _CHECKPOINT)):
                raise UserError(
                    f"{path} holds a session already; continue it with --resume or choose another -o"
                )
            write_json(path / _CONFIG, config)
            return cls(path, read_json(path / _CONFIG), lock)

    @classmethod
    def open(cls, path: Path, expected: Mapping[str, Any] | None = None) -> Self:
        """Open the session in `path` to read it, also while another process writes to it.

        Args:
            path: the session's folder.
            expected: entries that the configuration must have, such as the hashes of model and plan.

        Raises:
            UserError: there is no session, it is damaged, or it was made with something else than `expected`.
        """
        return cls(path, _read_config(path, expected or {}))

    @classmethod
    def resume(cls, path: Path, expected: Mapping[str, Any]) -> Self:
        """Open the session in `path` to continue it, and take it back to its checkpoint.

        Raises:
            UserError: as `open`; also when another process writes to the session or its files contradict
                each other.
        """
        config = _read_config(path, expected)
        with _closed_on_error(lock_folder(path)) as lock:
            _remove_leftovers(path)
            session = cls(path, config, lock)
            session.rewind()
            return session

    def close(self) -> None:
        """Let other processes write to the session."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- what grows

    def log(self, text: str) -> None:
        """Append `text`, every line with the seconds that the session has run (without pauses)."""
        elapsed = time.monotonic() - self._log_start
        lines = text.splitlines() or [""]
        append_lines(self._writable(_LOG), "".join(f"{elapsed:10.3f} s  {line}\n" for line in lines))

    def record_sample(self, step: int, arrays: Mapping[str, ArrayLike]) -> None:
        """Put the sample of a step on disk; to be called before it is sent.

        Args:
            step: number of the step that learns from it, counted from 1.
            arrays: what goes to the board (inputs, labels, masks); same names and shapes at every step.
        """
        self._writable("samples")
        self._samples.record(step, arrays)

    def record_latents(self, step: int, arrays: Mapping[str, ArrayLike]) -> None:
        """Put on disk what a step trains on in the place of a sample; going back to a checkpoint keeps it.

        Args:
            step: number of the step, counted from 1.
            arrays: latents and labels; same names and shapes at every step that has some.
        """
        self._writable("latents")
        self._latents.record(step, arrays)

    def latents(self) -> Iterator[tuple[int, Arrays]]:
        """Yield every step that trains on latents, and these, in the order of the steps.

        Raises:
            UserError: a file is missing or damaged.
        """
        yield from self._latents

    def samples(self) -> Iterator[tuple[int, Arrays]]:
        """Yield every step that was sent a sample, and that, in the order of the steps.

        Raises:
            UserError: a file is missing or damaged.
        """
        yield from self._samples

    def record_step(self, step: int, losses: Mapping[str, float], seconds: float, resent: int) -> None:
        """Append one line to the curve.

        Args:
            step: number of the step, counted from 1.
            losses: value of every loss, in the same order at every step; NaN without a label.
            seconds: what this step took.
            resent: frames that the link sent again during this step.
        """
        path = self._writable(_CURVE)
        rows: list[list[object]] = [[step, *map(float, losses.values()), round(seconds, 6), resent]]
        if not path.exists():
            rows.insert(0, ["step", *losses, "seconds", "resent"])
        append_lines(path, _csv_text(rows))

    def curve(self) -> Curve:
        """Return the curve so far; without steps when there are none.

        Raises:
            UserError: `curve.csv` is damaged.
        """
        return _read_curve(self.path / _CURVE)

    def save_checkpoint(self, step: int, arrays: Mapping[str, ArrayLike]) -> None:
        """Keep weights and state as they are after `step` steps; the previous checkpoint goes."""
        write_arrays(self._writable(_CHECKPOINT), {_CHECKPOINT_STEP: step, **arrays})

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the last checkpoint, or None when there is none.

        Raises:
            UserError: `checkpoint.npz` is damaged.
        """
        path = self.path / _CHECKPOINT
        if not path.exists():
            return None
        arrays = read_arrays(path)
        if _CHECKPOINT_STEP not in arrays:
            raise damaged(path, f"it has no {_CHECKPOINT_STEP}")
        return Checkpoint(int(arrays.pop(_CHECKPOINT_STEP)), arrays)

    def rewind(self) -> Checkpoint | None:
        """Drop what was recorded after the checkpoint, and return it; without one everything is dropped.

        Raises:
            UserError: the curve ends before the checkpoint, or a file is damaged.
        """
        path = self._writable(_CURVE)
        checkpoint = self.load_checkpoint()
        last_step = checkpoint.step if checkpoint else 0
        curve = self.curve()
        if last_step > curve.step.max(initial=0):
            raise damaged(path, f"it ends before the checkpoint's step {last_step}")
        kept = int(np.count_nonzero(curve.step <= last_step))
        replace_lines(path, whole_lines(path)[: 1 + kept] if kept else [])
        self._samples.rewind(last_step)
        return checkpoint

    # --- what a session starts from and ends with

    def save_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep the plan that the firmware was built from."""
        write_json(self._writable(_PLAN), plan)

    def plan(self) -> dict[str, Any] | None:
        """Return the plan, or None when it was not saved."""
        return self._json(_PLAN)

    def save_weights(self, when: Literal["before", "after"], weights: Mapping[str, ArrayLike]) -> None:
        """Keep the weights that the board started from or ended with."""
        write_arrays(self._writable(_WEIGHTS[when]), weights)

    def weights(self, when: Literal["before", "after"]) -> Arrays:
        """Return the weights by name.

        Raises:
            UserError: they were not saved or are damaged.
        """
        return read_arrays(self.path / _WEIGHTS[when])

    def save_predictions(self, rgb: ArrayLike, truth: ArrayLike, before: ArrayLike, after: ArrayLike) -> None:
        """Keep held-out frames: rgb uint8 (n, h, w, 3); depths float32 (n, h, w) in metres, 0 = unknown."""
        depths = {"truth": truth, "before": before, "after": after}
        arrays = {name: np.asarray(depth, np.float32) for name, depth in depths.items()}
        write_arrays(self._writable(_PREDICTIONS), {"rgb": np.asarray(rgb, np.uint8), **arrays})

    def predictions(self) -> Predictions | None:
        """Return the held-out frames, or None when they were not saved.

        Raises:
            UserError: `predictions.npz` is damaged.
        """
        path = self.path / _PREDICTIONS
        if not path.exists():
            return None
        arrays = read_arrays(path)
        if missing := {"rgb", "truth", "before", "after"} - set(arrays):
            raise damaged(path, f"it has no {', '.join(sorted(missing))}")
        frames = Predictions(arrays["rgb"], arrays["truth"], arrays["before"], arrays["after"])
        for depth in (frames.truth, frames.before, frames.after):
            if depth.ndim != 3 or frames.rgb.shape != (*depth.shape, 3):
                raise damaged(path, "rgb must be (n, h, w, 3), and truth, before and after (n, h, w)")
        return frames

    def save_segmentations(self, outputs: Mapping[str, Segmentation]) -> None:
        """Keep the segmentations of held-out frames by the outputs' names."""
        write_arrays(
            self._writable(_SEGMENTATIONS),
            {f"{name}.{key}": array for name, maps in outputs.items() for key, array in vars(maps).items()},
        )

    def segmentations(self) -> dict[str, Segmentation]:
        """Return the segmentations by the outputs' names; none when they were not saved.

        Raises:
            UserError: `segmentations.npz` is damaged.
        """
        path = self.path / _SEGMENTATIONS
        if not path.exists():
            return {}
        arrays, found = read_arrays(path), {}
        for name in dict.fromkeys(key.rpartition(".")[0] for key in arrays):
            try:
                maps = [arrays[f"{name}.{field.name}"] for field in fields(Segmentation)]
            except KeyError as error:
                raise damaged(path, f"it has no {error.args[0]}") from None
            if any(one.ndim != 3 or maps[0].shape != (*one.shape, 3) for one in maps[1:]):
                raise damaged(path, "rgb must be (n, h, w, 3), and truth, before and after (n, h, w)")
            found[name] = Segmentation(*maps)
        return found

    def finish(self, results: Mapping[str, Any]) -> None:
        """Gather samples and latents in one file each, keep the results (null where one is not finite)."""
        path = self._writable(_RESULTS)
        self._samples.pack()
        self._latents.pack()
        write_json(path, results)

    def results(self) -> dict[str, Any] | None:
        """Return the results, or None when the session has not ended."""
        return self._json(_RESULTS)

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return read_json(path) if path.exists() else None

    def _writable(self, name: str) -> Path:
        if self._lock is None:
            raise FieldtuneError(
                f"session {self.path} is open for reading only; create or resume it to write"
            )
        return self.path / name


def remove_session(path: Path) -> None:
    """Delete the session in the folder `path` with all its files; without a folder there is nothing to do.

    Raises:
        UserError: the folder holds something else than a session, another process writes to it, or it
            cannot be deleted.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / _CONFIG).is_file():
        raise UserError(f"{path} exists and holds no session; choose another -o")
    descriptor = lock_folder(path)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise UserError(f"cannot delete the session in {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _closed_on_error(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _read_config(path: Path, expected: Mapping[str, Any]) -> dict[str, Any]:
    if not (path / _CONFIG).is_file():
        raise UserError(
            f"{path} holds no session, {_CONFIG} is missing; give the folder that 'fieldtune tune -o' wrote"
        )
    config = read_json(path / _CONFIG)
    for key, value in plain(expected).items():
        if config.get(key) != value:
            raise UserError(
                f"session {path} was made with {key} = {config.get(key)!r}, not {value!r}; "
                "give what it was made with, or begin another session with another -o"
            )
    return config


def _remove_leftovers(path: Path) -> None:
    """Remove what a kill left: unfinished files beside those that they would replace, half a line of log."""
    for name in (
        _CONFIG,
        _PLAN,
        _RESULTS,
        _CURVE,
        _CHECKPOINT,
        _PREDICTIONS,
        "samples.npz",
        "latents.npz",
        *_WEIGHTS.values(),
    ):
        for leftover in path.glob(f".{name}.*"):
            leftover.unlink(missing_ok=True)
    replace_lines(path / _LOG, whole_lines(path / _LOG))


def _last_log_time(path: Path) -> float:
    """Return the seconds that the last line of the log begins with; 0 without a log."""
    with contextlib.suppress(ValueError, IndexError):
        return float(whole_lines(path)[-1].split(" s ")[0])
    return 0.0


def _csv_text(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read_curve(path: Path) -> Curve:
    lines = list(csv.reader(whole_lines(path)))
    header, rows = (lines[0], lines[1:]) if lines else (["step", "seconds", "resent"], [])
    if header[:1] != ["step"] or header[-2:] != ["seconds", "resent"]:
        raise damaged(path, "its first line is not step, losses, seconds, resent")
    table = np.empty((len(rows), len(header)))
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise damaged(path, f"line {number + 2} has {len(row)} cells, the first line {len(header)}")
        try:
            table[number] = [float(cell) for cell in row]
        except ValueError as error:
            raise damaged(path, f"line {number + 2} has a cell that is no number") from error
    step = table[:, 0].astype(np.int64)
    if np.any(np.diff(step) <= 0):
        raise damaged(path, "its steps do not rise")
    return Curve(tuple(header[1:-2]), step, table[:, 1:-2], table[:, -2], table[:, -1].astype(np.int64))
