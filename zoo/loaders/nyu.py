"""NYUv2's labelled frames: ``nyu_depth_v2_labeled.mat``, with ``splits.mat`` and class mappings beside it.

The frames are in MATLAB's format 7.3, which is HDF5 with the axes of every array reversed: a frame is the
transpose of what a picture is elsewhere. The small files beside it are in MATLAB's older format; frames and
classes count from 1 there.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError, UserError
from zoo.frames import UNKNOWN_CLASS, Frame, Frames

SPLITS = "splits.mat"
CLASSES_40 = "classMapping40.mat"
CLASSES_13 = "class13Mapping.mat"

# What scipy raises on a damaged file, beside an error of its own.
_BROKEN_MAT = (OSError, ValueError, TypeError, IndexError, NotImplementedError, zlib.error)
# What is read of the file: type and number of axes. `depths`, whose holes are filled in, is not.
_ARRAYS: dict[str, tuple[str, int]] = {
    "images": ("uint8", 4),
    "rawDepths": ("float32", 3),
    "labels": ("uint16", 3),
    "sceneTypes": ("object", 2),
}


def open_labelled(path: Path) -> Frames:
    """Open the labelled frames: those of the training split first, then those of the test split.

    Depth is what the sensor measured, `target` the place of the scene's type in the alphabetical list of all.
    There are `classes` where a mapping lies beside the file (:func:`class_table`).

    Raises:
        DataError: the file is no such file, or broken; ``splits.mat`` is missing, or of another data set.
        UserError: h5py or scipy is not installed.
    """
    with _opened(path) as file:
        _check(path, file)
        count = len(file["images"])
        scenes = _scene_types(file)
    numbers = _split(path.parent / SPLITS, count)
    table = class_table(path.parent)
    types = sorted(set(scenes))

    def load(number: int) -> Frame:
        with _opened(path) as file:
            rgb, depth, labels = (file[name][number].T for name in ("images", "rawDepths", "labels"))
        name = f"{path.name}[{number}]"
        return Frame(
            rgb=np.ascontiguousarray(rgb),
            depth=np.where(depth > 0, depth, np.float32(0)),
            classes=None if table is None else _classes(name, labels, table),
            name=name,
            target=np.array([types.index(scenes[number])], np.float32),
        )

    return Frames(load, numbers)


def class_table(folder: Path) -> NDArray[np.uint8] | None:
    """Return the class of each of the data set's 895 label numbers, 255 = unknown, or None without a mapping.

    ``classMapping40.mat`` gives 40 classes (Gupta et al. 2013); with ``class13Mapping.mat`` as well it is 13
    (Couprie et al. 2013). The 894 names themselves are too many for a uint8.

    Raises:
        DataError: a mapping is broken, or there is only the second.
    """
    if not (folder / CLASSES_40).is_file():
        if (folder / CLASSES_13).is_file():
            raise DataError(
                f"{folder / CLASSES_13} maps the 40 classes of {CLASSES_40}, which must lie beside it"
            )
        return None
    to_40 = _numbers(folder / CLASSES_40, "mapClass", 40)
    if not (folder / CLASSES_13).is_file():
        return _from_one(to_40)
    to_13 = _numbers(folder / CLASSES_13, "classMapping13", 13)
    if to_13.size != 40:
        raise DataError(
            f"{folder / CLASSES_13} must say the class of 40 classes, but says that of {to_13.size}"
        )
    return _from_one(np.append(0, to_13)[to_40])


def _from_one(mapping: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return classes that count from 0, unknown before the first, of classes that count from 1."""
    classes = np.append(0, mapping) - 1
    return np.where(classes < 0, UNKNOWN_CLASS, classes).astype(np.uint8)


def _numbers(path: Path, key: str, most: int) -> NDArray[np.int64]:
    """Return whole numbers, 0 to `most`, that a small .mat file has in an array or a struct's first field."""
    value = _read_mat(path).get(key)
    if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
        value = value.ravel()[0][0]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uif" or value.size == 0:
        raise DataError(f"{path} holds no numbers {key}; is it the file of that name for NYUv2?")
    numbers = value.ravel().astype(np.int64)
    if (numbers != value.ravel()).any() or numbers.min() < 0 or numbers.max() > most:
        raise DataError(f"{path}: {key} must hold whole numbers from 0 to {most}")
    return numbers


def _split(path: Path, count: int) -> list[int]:
    """Return the frames' places in the file, those of the training split first."""
    if not path.is_file():
        raise DataError(
            f"{path} is missing; it says which of NYUv2's labelled frames are for training and which for test"
        )
    parts = [_numbers(path, key, count) - 1 for key in ("trainNdxs", "testNdxs")]
    numbers = np.concatenate(parts)
    if numbers.min() < 0 or len(set(numbers.tolist())) != numbers.size:
        raise DataError(f"{path} names a frame twice, or frame 0; frames count from 1")
    return [int(number) for number in numbers]


def _check(path: Path, file: Any) -> None:
    counts = set()
    for name, (dtype, axes) in _ARRAYS.items():
        array = file.get(name)
        if array is None or not hasattr(array, "dtype"):
            raise DataError(f"{path} has no array {name!r}; is it nyu_depth_v2_labeled.mat?")
        if str(array.dtype) != dtype or array.ndim != axes:
            raise DataError(
                f"{path}: {name} must be {dtype} with {axes} axes, but is {array.dtype} {array.shape}"
            )
        counts.add(array.shape[1] if name == "sceneTypes" else array.shape[0])
    sizes = {file[name].shape[-2:] for name in ("images", "rawDepths", "labels")}
    if len(counts) > 1 or len(sizes) > 1 or file["images"].shape[1] != 3:
        raise DataError(f"{path}: {', '.join(_ARRAYS)} disagree in the number or size of the frames")


def _scene_types(file: Any) -> list[str]:
    """Return the type of scene of each frame; MATLAB's strings are references to arrays of characters."""
    return ["".join(map(chr, file[reference][()].ravel())) for reference in file["sceneTypes"][0]]


def _classes(name: str, labels: NDArray[np.uint16], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if labels.max() >= table.size:
        raise DataError(f"{name} has label {labels.max()}, but the mapping ends at {table.size - 1}")
    return np.ascontiguousarray(table[labels])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file; whatever HDF5 finds wrong with it, also later, becomes a DataError."""
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path} needs the package h5py: pip install 'fieldtune[datasets]'") from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no complete file of MATLAB's format 7.3 (HDF5): {error}") from error


def _read_mat(path: Path) -> dict[str, Any]:
    """Return the variables of a file of MATLAB's older format."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise UserError(f"{path} needs the package scipy: pip install 'fieldtune[datasets]'") from error
    try:
        variables: dict[str, Any] = loadmat(path)
    except (*_BROKEN_MAT, MatReadError) as error:
        raise DataError(f"{path} is no complete .mat file that scipy can read ({error})") from error
    return variables
