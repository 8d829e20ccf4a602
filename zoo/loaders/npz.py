"""The .npz layout: all frames of a data set in one file, one array a field (docs/your_data.md)."""

import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from fieldtune.files import replacing
from zoo.frames import Frame, Frames
from zoo.loaders.arrays import BROKEN_ARRAY
from zoo.tof import ZONES, TofFrame, TofGeometry

# Type and shape of each array; names stand for the sizes of rgb, which all arrays share.
_FIELDS: dict[str, tuple[type[np.generic], tuple[str | int, ...]]] = {
    "rgb": (np.uint8, ("frames", "height", "width", 3)),
    "depth_mm": (np.uint16, ("frames", "height", "width")),
    "classes": (np.uint8, ("frames", "height", "width")),
    "tof_distance_mm": (np.int16, ("frames", ZONES, ZONES)),
    "tof_target_status": (np.uint8, ("frames", ZONES, ZONES)),
    "target": (np.float32, ("frames", "values")),
    "sparse_depth": (np.bool_, ("frames",)),
}

# Field of TofGeometry: the array that holds it and how many numbers that is (None: any).
_GEOMETRY: dict[str, tuple[str, int | None]] = {
    "camera_fov_deg": ("camera_fov_deg", 2),
    "tof_fov_deg": ("tof_fov_deg", 2),
    "flip_horizontal": ("tof_flip_horizontal", 1),
    "flip_vertical": ("tof_flip_vertical", 1),
    "valid_status": ("tof_valid_status", None),
    "max_range_m": ("tof_max_range_m", 1),
}


def open_npz(path: Path) -> Frames:
    """Open the .npz layout; the arrays are read at once and stay in memory.

    Raises:
        DataError: the file is broken, lacks ``rgb``, or an array has another type or shape than the layout's.
    """
    arrays = _read(path)
    _check(path, arrays)

    def load(number: int) -> Frame:
        def row(key: str) -> NDArray[Any] | None:
            return arrays[key][number] if key in arrays else None

        depth_mm, distance, status = row("depth_mm"), row("tof_distance_mm"), row("tof_target_status")
        return Frame(
            rgb=arrays["rgb"][number],
            depth=None if depth_mm is None else depth_mm.astype(np.float32) / np.float32(1000),
            classes=row("classes"),
            tof=None if distance is None or status is None else TofFrame(distance, status),
            name=f"{path.name}[{number}]",
            target=row("target"),
            sparse_depth=bool(row("sparse_depth")),
        )

    return Frames(load, range(len(arrays["rgb"])), _geometry(path, arrays))


def write_npz(path: Path, frames: Iterable[Frame], geometry: TofGeometry | None = None) -> None:
    """Write frames as one .npz file that :func:`open_npz` reads.

    Depth is stored in millimetres as uint16: what is beyond 65.535 m becomes unknown. Names are not stored.

    Raises:
        DataError: there are no frames, or they differ in size or in what is known about them.
        UserError: the file cannot be written.
    """
    kept = list(frames)
    if not kept:
        raise DataError(f"there are no frames to write to {path}")
    getters: dict[str, Callable[[Frame], NDArray[Any] | None]] = {
        "rgb": lambda frame: frame.rgb,
        "depth_mm": lambda frame: None if frame.depth is None else _millimetres(frame.depth),
        "classes": lambda frame: frame.classes,
        "tof_distance_mm": lambda frame: None if frame.tof is None else frame.tof.distance_mm,
        "tof_target_status": lambda frame: None if frame.tof is None else frame.tof.status,
        "target": lambda frame: frame.target,
        "sparse_depth": lambda frame: np.array(True) if frame.sparse_depth else None,
    }
    arrays: dict[str, NDArray[Any]] = {}
    for key, get in getters.items():
        column = _column(path, key, [get(frame) for frame in kept])
        if column is not None:
            arrays[key] = column
    if geometry is not None:
        arrays |= _geometry_arrays(geometry)
    with replacing(path) as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _column(path: Path, key: str, rows: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Stack one field of all frames; None where no frame has it."""
    known = [row for row in rows if row is not None]
    if not known:
        return None
    if len(known) != len(rows):
        raise DataError(f"cannot write {path}: only {len(known)} of {len(rows)} frames have {key}")
    sizes = sorted({row.shape for row in known})
    if len(sizes) > 1:
        raise DataError(
            f"cannot write {path}: {key} has the shape {sizes[0]} in one frame and {sizes[1]} in another"
        )
    return np.stack(known)


def _millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    millimetres = np.rint(depth.astype(np.float64) * 1000)
    return np.where((millimetres > 0) & (millimetres <= np.iinfo(np.uint16).max), millimetres, 0).astype(
        np.uint16
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array; frames need an .npz file written with numpy.savez")
        with loaded as archive:
            known = {*_FIELDS, *(key for key, _ in _GEOMETRY.values())}
            return {key: archive[key] for key in archive.files if key in known}
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (*BROKEN_ARRAY, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        # zipfile takes damage for a compression method that it does not implement.
        raise DataError(f"{path} is no complete .npz file ({error}); copy or write it again") from error


def _check(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Compare every array with the layout; the sizes that ``rgb`` has are those of all."""
    if "rgb" not in arrays:
        raise DataError(
            f"{path} has no array 'rgb', which holds the frames: uint8 (frames, height, width, 3)"
        )
    sizes: dict[str | int, int] = {}
    for key, (dtype, layout) in _FIELDS.items():
        if key not in arrays:
            continue
        array = arrays[key]
        expected = [sizes.get(name, name) for name in layout]
        fits = array.ndim == len(expected) and all(
            size == wanted or isinstance(wanted, str)
            for size, wanted in zip(array.shape, expected, strict=True)
        )
        if array.dtype != dtype or not fits:
            shape = ", ".join(map(str, expected))
            raise DataError(
                f"{path}: {key} must be {np.dtype(dtype)} ({shape}), but is {array.dtype} {array.shape}"
            )
        if key == "rgb":
            sizes = dict(zip(layout, array.shape, strict=True))
    if arrays["rgb"].size == 0:
        raise DataError(f"{path} holds no frames; rgb has the shape {arrays['rgb'].shape}")
    if ("tof_distance_mm" in arrays) != ("tof_target_status" in arrays):
        raise DataError(f"{path} must hold tof_distance_mm and tof_target_status together, but has only one")


def _geometry(path: Path, arrays: dict[str, NDArray[Any]]) -> TofGeometry:
    given: dict[str, Any] = {}
    for field, (key, count) in _GEOMETRY.items():
        if key not in arrays:
            continue
        numbers = np.ravel(arrays[key])
        if numbers.dtype.kind not in "biuf" or numbers.size != (count or numbers.size):
            raise DataError(
                f"{path}: {key} must hold {count or 'some'} number(s), "
                f"but is {arrays[key].dtype} {arrays[key].shape}"
            )
        given[field] = numbers.item() if count == 1 else tuple(numbers.tolist())
    try:
        return TofGeometry(**given)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _geometry_arrays(geometry: TofGeometry) -> dict[str, NDArray[Any]]:
    values = {key: getattr(geometry, field) for field, (key, _) in _GEOMETRY.items()}
    return {key: np.array(value) for key, value in values.items() if value is not None}
