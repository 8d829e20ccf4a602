"""How a session's files are written and read: JSON, arrays, files that grow by lines, the folder's lock.

Every error is a UserError that names the file.
"""

import fcntl
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fieldtune.errors import UserError
from fieldtune.files import replacing, write_text

Arrays = dict[str, NDArray[Any]]


def damaged(path: Path, how: str) -> UserError:
    """Return the error for a file whose content is not what Fieldtune writes."""
    return UserError(f"{path} is damaged: {how}; restore it or begin another session with another -o")


def lock_folder(path: Path) -> int:
    """Lock a folder against other sessions; the lock lasts until the returned descriptor is closed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"cannot use {path} as a session's folder: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        why = "another process writes to it" if isinstance(error, BlockingIOError) else error.strerror
        raise UserError(
            f"cannot lock session {path}: {why}; end that process or choose another -o"
        ) from error
    return descriptor


# --- JSON


def plain(value: Any) -> Any:
    """Return `value` as JSON has it: no numpy scalars, no paths, null where a number is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, wholly or not at all."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in `path`.

    Raises:
        UserError: the file cannot be read or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise damaged(path, f"not JSON ({error})") from error
    if not isinstance(value, dict):
        raise damaged(path, "not a JSON object")
    return value


# --- arrays


def write_arrays(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write a `.npz`, wholly or not at all; the same arrays give the same bytes."""
    # Not numpy.savez: it takes names as keywords, and a tensor may be called "file".
    with replacing(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def read_arrays(path: Path) -> Arrays:
    """Return all arrays of a `.npz`; their checksums are verified.

    Raises:
        UserError: the file cannot be read or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _read_member(archive, name) for name in archive.namelist()}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, str(error)) from error


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as entry:
        array: NDArray[Any] = np.lib.format.read_array(entry, allow_pickle=False)
        return array


# --- files that grow by lines


def append_lines(path: Path, text: str) -> None:
    """Add whole lines to a file with one write, so that a kill finds them there or not.

    Raises:
        UserError: the file cannot be written, such as on a full disk.
    """
    data = text.encode()
    try:
        with path.open("ab", buffering=0) as stream:
            written = stream.write(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    if written != len(data):
        raise UserError(f"cannot write {path}: the disk is full; make room and continue with --resume")


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file that grows, without a last one that has no newline; none without the file.

    Raises:
        UserError: the file cannot be read or is not text.
    """
    if not path.exists():
        return []
    try:
        return path.read_bytes().decode().split("\n")[:-1]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise damaged(path, "it is not text") from error


def replace_lines(path: Path, lines: list[str]) -> None:
    """Put `lines` in the place of what the file holds; without lines the file goes."""
    if lines:
        write_text(path, "".join(f"{line}\n" for line in lines))
    else:
        path.unlink(missing_ok=True)
