"""IDX files, as MNIST and the data sets in its form have them: arrays of bytes behind a short header."""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from lightning_rnnattn.data.files import GZIP_MAGIC
from lightning_rnnattn.errors import UserError

_UNSIGNED_BYTES = 0x08


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in a file, plain or gzip (told by its first bytes).

    The header is two zero bytes, the type of the numbers, the number of dimensions, and the size of each as a 32-bit
    integer, the most significant byte first.

    Args:
        path: the file.
        dimensions: how many it must have: 3 for images (N, height, width), 1 for labels (N,).

    Raises:
        UserError: naming the file and what is wrong, if it cannot be read, is no such array, is cut short or too long.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            content = (cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if compressed else raw).read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: the gzip file is cut short or damaged ({error}): fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read the file: {error.strerror}") from error
    magic, header = content[:4], 4 + 4 * dimensions
    expected = bytes((0, 0, _UNSIGNED_BYTES, dimensions))
    if magic != expected:
        kind = "images" if dimensions == 3 else "labels"
        raise UserError(f"{path}: begins with {magic.hex(' ')}, where an IDX file of {kind} has {expected.hex(' ')}")
    if len(content) < header:
        raise UserError(f"{path}: is cut short in its header of {header} bytes: fetch it again")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    size = math.prod(shape)
    if not size:
        raise UserError(f"{path}: is empty: its header says {_times(shape)}")
    if len(content) != header + size:
        raise UserError(
            f"{path}: has {len(content) - header} bytes behind its header, which says {_times(shape)} = {size}:"
            " fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
