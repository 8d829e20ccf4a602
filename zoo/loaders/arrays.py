"""Reading one image or array file of a data set folder; whatever is wrong with it becomes a DataError."""

import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldtune.errors import DataError

BROKEN_ARRAY = (ValueError, EOFError, SyntaxError, TypeError, tokenize.TokenError, zipfile.BadZipFile)
"""What ``numpy.load`` raises on a damaged array: its header is parsed as a Python literal."""


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return a PNG, JPEG or .npy (uint8, height x width x 3) colour image.

    Raises:
        DataError: the file is missing, broken or no such image.
    """
    if path.suffix == ".npy":
        array = read_array(path)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise DataError(f"{path} must be uint8 (height, width, 3), but is {array.dtype} {array.shape}")
        return array
    return np.asarray(_read_image(path).convert("RGB"))


def read_uint16(path: Path) -> NDArray[np.uint16]:
    """Return a 16-bit grey PNG.

    Raises:
        DataError: the file is missing, broken or not 16 bit grey.
    """
    image = _read_image(path)
    # Pillow opens 16-bit PNG as "I;16" and, in older versions, as "I" (int32).
    if image.mode not in ("I", "I;16", "I;16B"):
        raise DataError(f"{path} must be a 16-bit grey PNG, but its Pillow mode is {image.mode}")
    return np.asarray(image).astype(np.uint16)


def read_array(path: Path) -> NDArray[Any]:
    """Return the array in a .npy file.

    Raises:
        DataError: the file is missing, broken or no plain array.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except BROKEN_ARRAY as error:
        raise DataError(f"{path} is no complete .npy array; write it again with numpy.save") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} holds several arrays; one .npy array is expected")
    return array


def _read_image(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow reports a damaged PNG as SyntaxError.
        raise DataError(f"{path} is no complete image that Pillow can read ({error})") from error
    return image
