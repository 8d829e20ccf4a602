"""One interface for every data set: a :class:`Frames` sequence of :class:`Frame`, whatever is on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from zoo.tof import TofFrame, TofGeometry

UNKNOWN_CLASS = 255


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera frame with all that is known about it.

    Args:
        rgb: uint8 (H, W, 3).
        depth: true depth in metres, float32 (H, W), 0 = unknown.
        classes: class of each pixel, uint8 (H, W), 255 = unknown.
        tof: what the depth sensor saw at the same time.
        name: where the frame comes from, for messages.
        target: what the whole frame stands for, float32 (K,): a class index (K = 1) or K values.
        sparse_depth: the depth is that of single points, as a lidar gives it: most pixels are unknown.

    Raises:
        DataError: an array has another shape or type.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    classes: NDArray[np.uint8] | None = None
    tof: TofFrame | None = None
    name: str = "frame"
    target: NDArray[np.float32] | None = None
    sparse_depth: bool = False

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or 0 in self.rgb.shape:
            raise DataError(
                f"{self.name}: rgb must have the shape (height, width, 3), but has {self.rgb.shape}"
            )
        image = self.rgb.shape[:2]
        self._check("rgb", self.rgb, np.uint8, self.rgb.shape)
        self._check("depth", self.depth, np.float32, image)
        self._check("classes", self.classes, np.uint8, image)
        if self.target is not None:
            self._check("target", self.target, np.float32, (self.target.size,))

    def _check(
        self, field: str, array: NDArray[np.generic] | None, dtype: type, shape: tuple[int, ...]
    ) -> None:
        if array is not None and (array.dtype != dtype or array.shape != shape):
            raise DataError(
                f"{self.name}: {field} must be {np.dtype(dtype)} {shape}, but is {array.dtype} {array.shape}"
            )


class Frames(Sequence[Frame]):
    """Frames in file order; each is read when it is asked for.

    Args:
        load: returns the frame with a given number; called anew at each access.
        numbers: the frames of this sequence, by the number that `load` takes.
        geometry: how the ToF zones lie in these images.
    """

    def __init__(
        self, load: Callable[[int], Frame], numbers: Sequence[int], geometry: TofGeometry | None = None
    ) -> None:
        self._load = load
        self._numbers = numbers
        self.geometry = geometry or TofGeometry()

    @classmethod
    def of(cls, frames: Sequence[Frame], geometry: TofGeometry | None = None) -> "Frames":
        """Return frames that are already in memory as a data set."""
        return cls(frames.__getitem__, range(len(frames)), geometry)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> "Frames": ...
    def __getitem__(self, index: int | slice) -> "Frame | Frames":
        if isinstance(index, slice):
            return Frames(self._load, self._numbers[index], self.geometry)
        return self._load(self._numbers[index])


def open_frames(path: Path) -> Frames:
    """Open a data set of any layout that docs/your_data.md describes; which one, its name and content tell.

    Raises:
        DataError: there is nothing at `path`, or it is no such data set, or it is broken.
        UserError: a package that reads it is not installed.
    """
    # The loaders build on Frame and Frames, so they cannot be imported above.
    from zoo.loaders import idsia, kitti, npz, nyu, parts, tartanair, tum

    files = {
        ".npz": npz.open_npz,
        ".csv": idsia.open_list,
        ".mat": nyu.open_labelled,
        ".txt": kitti.open_list,
    }
    if path.suffix in files and path.is_file():
        return files[path.suffix](path)
    if path.is_dir():
        if (path / tum.COLOUR_LIST).is_file():
            return tum.open_folder(path)
        if any(path.glob(parts.PATTERN)):
            return parts.open_folder(path)
        if any(path.glob("*.csv")):
            return idsia.open_folder(path)
        if (path / kitti.SELECTED_DEPTH).is_dir():
            return kitti.open_selection(path)
        if any(path.glob(kitti.DATES)):
            return kitti.open_folder(path)
        if any(tartanair.trajectories(path)):
            return tartanair.open_folder(path)
    if not path.exists():
        raise DataError(
            f"there is no data set at {path}; give an .npz file, a .csv list or a folder of frames"
        )
    raise DataError(
        f"{path} is no data set that Fieldtune knows; give an .npz file, a folder that 'fieldtune collect' "
        f"wrote, one with a .csv list (IDSIA-µMDE), with {tum.COLOUR_LIST} and {tum.DEPTH_LIST} (TUM RGB-D), "
        f"with {tartanair.IMAGES} (TartanAir) or with KITTI's drives, or nyu_depth_v2_labeled.mat (NYUv2)"
    )
