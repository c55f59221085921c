"""`model.slim`, the packed file: what is shipped, and the size that is claimed.

    4 bytes   "SLIM"
    2 bytes   format version, little endian
    32 bytes  SHA-256 of the rest
    rest      one Zstandard frame: length of the header (4 bytes, little endian), header (JSON), tensors one after another

The header holds the manifest and, a tensor, `[name, dtype, shape, bits]`; `bits` is null where the tensor lies there as it is
in memory, else the width of its packed codes (see `core.packing`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from torch import Tensor

from slimline.core.affine import integer_range
from slimline.core.packing import pack, unpack
from slimline.errors import SlimlineError

MAGIC = b"SLIM"
VERSION = 1
LEVEL = 19
"""Zstandard's effort: sizes count, and these files are small."""


def to_packed(manifest: Mapping[str, Any], state: Mapping[str, Tensor], widths: Mapping[str, int]) -> bytes:
    """The bytes of a packed file.

    Args:
        manifest: `model.json`.
        state: tensors by name, weights on a grid as int8 codes.
        widths: bits of the codes, for the tensors that are codes.
    """
    entries: list[list[Any]] = []
    streams = []
    for name in sorted(state):
        array = state[name].contiguous().cpu().numpy()
        bits = widths.get(name)
        entries.append([name, array.dtype.str, list(array.shape), bits])
        streams.append(array.tobytes() if bits is None else pack(array, bits, low=integer_range(bits, signed=True)[0]))
    header = json.dumps({"manifest": manifest, "tensors": entries}, separators=(",", ":"), allow_nan=False).encode()
    content = len(header).to_bytes(4, "little") + header + b"".join(streams)
    frame = zstandard.ZstdCompressor(level=LEVEL).compress(content)
    return MAGIC + VERSION.to_bytes(2, "little") + hashlib.sha256(frame).digest() + frame


def read_packed(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Manifest and tensors of a packed file.

    Raises:
        SlimlineError: missing, foreign, of another version, truncated or altered.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SlimlineError(f"{path}: cannot be read ({error.strerror})") from error
    if content[:4] != MAGIC:
        raise SlimlineError(f"{path}: no packed model (it does not begin with SLIM)")
    if (version := int.from_bytes(content[4:6], "little")) != VERSION:
        raise SlimlineError(f"{path}: packed format {version}, where this version reads {VERSION}")
    frame = content[38:]
    if hashlib.sha256(frame).digest() != content[6:38]:
        raise SlimlineError(f"{path}: truncated or altered (its checksum does not match); fetch or build it again")
    body = zstandard.ZstdDecompressor().decompress(frame)
    length = int.from_bytes(body[:4], "little")
    header = json.loads(body[4 : 4 + length])
    state = {}
    offset = 4 + length
    for name, dtype, shape, bits in header["tensors"]:
        count = int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize if bits is None else (count * bits + 7) // 8
        stream = body[offset : offset + size]
        offset += size
        if bits is None:
            array = np.frombuffer(stream, dtype=dtype)
        else:
            array = unpack(stream, bits, count, low=integer_range(bits, signed=True)[0]).astype(dtype)
        state[name] = torch.from_numpy(array.reshape(shape).copy())
    return header["manifest"], state
