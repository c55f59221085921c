"""`model.slim`, the packed file: what is shipped, and the size that is claimed. Its layout is in docs/packed-format.md.

Tensors of bytes (codes, bits) and the places of zeros among real numbers are entropy-coded, all in one stream, each by a table of
frequencies of its own or the one that the others share, whichever is smaller; bytes that no table makes smaller, as those of most binary
weights, stand as they are. Everything else, the tables too, goes into one Zstandard frame, numbers of several bytes with their first bytes
together, then their second ones: exponents are alike, mantissas are not.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from jaxtyping import Integer, UInt8
from torch import Tensor

from slimline.core import rans
from slimline.errors import SlimlineError

MAGIC = b"SLIM"
VERSION = 4
DIGEST = 16
"""Bytes of SHA-256 that are kept, of the file as of what it was made of: no chance makes two alike."""
CHECKED, BEGIN = 6 + DIGEST, 6 + 2 * DIGEST
"""Where what the checksum is of begins: the provenance, then the frame."""
LEVEL = 19
"""Zstandard's effort: sizes count, and these files are small."""

DENSE = 0.9
"""Share of numbers that are not zero below which a tensor of real numbers is stored as their places and those numbers."""

PLACES = "places"

TABLE_BYTES, TABLE_BYTES_A_SYMBOL = 16, 1.3
"""What a table takes within the frame, about: its line in the header and the coder's state, and each frequency."""

CODER = 1.002
"""What the coder takes of n · entropy, at most: its rounded frequencies and its last states."""


@dataclass(frozen=True)
class Alphabet:
    """A tensor's bytes as symbols 0, 1, …: `symbol = (byte + 128) mod 256 - low` if signed, else `byte - low`."""

    signed: bool
    low: int
    size: int

    @classmethod
    def of(cls, data: UInt8[np.ndarray, " n"], *, signed: bool) -> "Alphabet":
        raised = data + np.uint8(128) if signed else data
        return cls(signed, int(raised.min()), int(raised.max()) - int(raised.min()) + 1)

    def symbols(self, data: UInt8[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
        raised = data + np.uint8(128) if self.signed else data
        return raised.astype(np.int64) - self.low

    def data(self, symbols: Integer[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
        raised = (symbols + self.low).astype(np.uint8)
        return raised - np.uint8(128) if self.signed else raised


def to_packed(manifest: Mapping[str, Any], state: Mapping[str, Tensor], provenance: str | None = None) -> bytes:
    """The bytes of a packed file.

    Args:
        manifest: `model.json`.
        state: tensors by name, those on a grid as their codes.
        provenance: digest of what it was made of, in hexadecimal digits; the first 32 are kept.
    """
    names = sorted(state)
    plain = {name: _bytes(state[name]) for name in names}
    streams = {name: plain[name] for name in names if state[name].itemsize == 1 and len(plain[name])}
    signed = {name: state[name].dtype == torch.int8 for name in streams}
    kept = {name: _present(plain[name], state[name].itemsize) for name in names if name not in streams}
    sparse = [name for name, present in kept.items() if len(present) and present.mean() < DENSE]
    # The places of numbers that are not zero; the name of no tensor holds a blank.
    streams |= {f"{name} {PLACES}": kept[name] for name in sparse}
    signed |= {f"{name} {PLACES}": False for name in sparse}
    grouped = _grouped(streams, signed)
    entries = []
    for name in names:
        tables_of = [grouped.which.get(key) for key in (name, f"{name} {PLACES}")]
        entries.append([name, str(state[name].dtype).removeprefix("torch."), list(state[name].shape), *tables_of])
    alphabets = [[one.signed, one.low, one.size] for one in grouped.alphabets]
    header = json.dumps({"manifest": manifest, "tensors": entries, "alphabets": alphabets}, separators=(",", ":"), allow_nan=False).encode()
    planes = []
    for name in kept:
        size = state[name].itemsize
        planes.append(_planes(plain[name].reshape(-1, size)[kept[name] > 0].reshape(-1) if name in sparse else plain[name], size))
    tables = _planes(np.concatenate([np.zeros(0, "<u2"), *grouped.tables]).astype("<u2").view(np.uint8), 2)
    raw = b"".join(plain[name].tobytes() for name in names if name in streams and name not in grouped.which)
    frame = zstandard.ZstdCompressor(level=LEVEL).compress(b"".join([len(header).to_bytes(4, "little"), header, tables, *planes]))
    stream = b""
    if grouped.which:
        order = sorted(grouped.which)
        symbols = np.concatenate([grouped.alphabets[grouped.which[name]].symbols(streams[name]) for name in order])
        which = np.repeat([grouped.which[name] for name in order], [len(streams[name]) for name in order])
        stream = rans.encode(symbols, which, grouped.tables)
    content = len(frame).to_bytes(4, "little") + frame + raw + stream
    made_of = bytes.fromhex(provenance or "")[:DIGEST].ljust(DIGEST, b"\0")
    return MAGIC + VERSION.to_bytes(2, "little") + _checksum(made_of + content) + made_of + content


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST]


def _present(data: UInt8[np.ndarray, " n"], itemsize: int) -> UInt8[np.ndarray, " numbers"]:
    """1 for each number that has a bit other than zero (so -0 has), else 0."""
    return np.asarray(data.reshape(-1, itemsize).max(1) > 0).astype(np.uint8)


@dataclass(frozen=True)
class _Grouped:
    """Which table codes which tensor; one that is not named stands as it is."""

    which: dict[str, int]
    alphabets: list[Alphabet]
    tables: list[rans.Table]


def _grouped(streams: Mapping[str, UInt8[np.ndarray, " n"]], signed: Mapping[str, bool]) -> _Grouped:
    """Tables for tensors of bytes: one for all signed, one for all unsigned ones, and own ones, or none, for those that are smaller so."""
    members: list[list[str]] = []
    for sign in (False, True):
        shared = [name for name in streams if signed[name] is sign]
        counts = {name: np.bincount(streams[name], minlength=256) for name in shared}
        together = sum(counts.values(), np.zeros(256, dtype=np.int64))
        singled = set[str]()
        for name in shared:
            own, rest = counts[name], together - counts[name]
            among, alone = _coded_bytes(together) - _coded_bytes(rest), _coded_bytes(own)
            as_it_is = math.inf if name.endswith(f" {PLACES}") else len(streams[name])
            if min(alone, as_it_is) < among:
                singled.add(name)
                together = rest
                if alone < as_it_is:
                    members.append([name])
        if remaining := [name for name in shared if name not in singled]:
            members.append(remaining)
    alphabets: list[Alphabet] = []
    tables: list[rans.Table] = []
    which: dict[str, int] = {}
    for number, names in enumerate(members):
        data = np.concatenate([streams[name] for name in names])
        alphabet = Alphabet.of(data, signed=signed[names[0]])
        alphabets.append(alphabet)
        tables.append(rans.frequencies(np.bincount(alphabet.symbols(data), minlength=alphabet.size)))
        which |= dict.fromkeys(names, number)
    return _Grouped(which, alphabets, tables)


def _bits(counts: Integer[np.ndarray, " symbols"]) -> float:
    """n · entropy, in bits."""
    present = counts[counts > 0]
    return float((present * np.log2(present.sum() / present)).sum()) if len(present) else 0.0


def _coded_bytes(counts: Integer[np.ndarray, " symbols"]) -> float:
    """What symbols take that have a table of their own, the table included."""
    symbols = int((counts > 0).sum())
    return CODER * _bits(counts) / 8 + TABLE_BYTES * (symbols > 0) + TABLE_BYTES_A_SYMBOL * symbols


def _bytes(tensor: Tensor) -> UInt8[np.ndarray, " n"]:
    """The bytes of `tensor` as they lie in memory (numpy does not know all of torch's types)."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if len(flat) else np.zeros(0, dtype=np.uint8)


def _planes(data: UInt8[np.ndarray, " n"], itemsize: int) -> bytes:
    """All first bytes, all second bytes, …"""
    return data.reshape(-1, itemsize).T.tobytes()


def _unplaned(data: bytes, itemsize: int) -> UInt8[np.ndarray, " n"]:
    return np.frombuffer(data, dtype=np.uint8).reshape(itemsize, -1).T.reshape(-1)


def read_packed(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Manifest and tensors of a packed file.

    Raises:
        SlimlineError: missing, foreign, of another version, truncated or altered.
    """
    content = _sound(path)
    try:
        return _read(content[BEGIN:])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, OverflowError, MemoryError, zstandard.ZstdError) as error:
        raise SlimlineError(f"{path}: no packed model, though its checksum matches ({' '.join(str(error).split())[:120]})") from error


def provenance_of(path: Path) -> str | None:
    """Digest of what a packed model was made of, in 32 hexadecimal digits; None where it carries none.

    Raises:
        SlimlineError: missing, foreign, of another version, truncated or altered.
    """
    made_of = _sound(path)[CHECKED:BEGIN]
    return made_of.hex() if any(made_of) else None


def _sound(path: Path) -> bytes:
    """The bytes of a packed file whose checksum matches."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SlimlineError(f"{path}: cannot be read ({error.strerror})") from error
    if content[:4] != MAGIC:
        raise SlimlineError(f"{path}: no packed model (it does not begin with SLIM)")
    if (version := int.from_bytes(content[4:6], "little")) != VERSION:
        raise SlimlineError(f"{path}: packed format {version}, where this version reads {VERSION}; make the file again with slimline {VERSION}.x")
    if _checksum(content[CHECKED:]) != content[6:CHECKED]:
        raise SlimlineError(f"{path}: truncated or altered (its checksum does not match); fetch or build it again")
    return content


def _read(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    end = 4 + int.from_bytes(content[:4], "little")
    body = zstandard.ZstdDecompressor().decompress(content[4:end])
    length = int.from_bytes(body[:4], "little")
    header = json.loads(body[4 : 4 + length])
    alphabets = [Alphabet(*one) for one in header["alphabets"]]
    offset = 4 + length

    def taken(size: int) -> bytes:
        nonlocal offset
        offset += size
        if offset > len(body):
            raise ValueError("a frame that ends too early")
        return body[offset - size : offset]

    numbers = _unplaned(taken(2 * sum(one.size for one in alphabets)), 2).view("<u2")
    tables = np.split(numbers, np.cumsum([one.size for one in alphabets])[:-1]) if alphabets else []
    counts = {entry[0]: int(np.prod(entry[2])) for entry in header["tensors"]}
    coded = [(name, counts[name], table) for name, _, _, table, _ in header["tensors"] if table is not None]
    coded += [(f"{name} {PLACES}", counts[name], table) for name, _, _, _, table in header["tensors"] if table is not None]
    raw = {name: counts[name] for name, kind, _, table, _ in header["tensors"] if table is None and _type(kind).itemsize == 1}
    begin, end = end, end + sum(raw.values())
    if end > len(content):
        raise ValueError("bytes that end too early")
    data = _decoded(content[end:], sorted(coded), alphabets, tables)
    for name, count in raw.items():
        data[name] = np.frombuffer(content, np.uint8, count, begin)
        begin += count
    for name, kind, _, table, places in header["tensors"]:
        itemsize = _type(kind).itemsize
        if table is not None or itemsize == 1:
            continue
        if places is None:
            data[name] = _unplaned(taken(counts[name] * itemsize), itemsize)
            continue
        present = data[f"{name} {PLACES}"] > 0
        numbers = np.zeros((counts[name], itemsize), dtype=np.uint8)
        numbers[present] = _unplaned(taken(int(present.sum()) * itemsize), itemsize).reshape(-1, itemsize)
        data[name] = numbers.reshape(-1)
    return header["manifest"], {name: _tensor(data[name], _type(kind), shape) for name, kind, shape, *_ in header["tensors"]}


def _tensor(data: UInt8[np.ndarray, " n"], kind: torch.dtype, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(data.copy()).view(kind).reshape(shape) if len(data) else torch.empty(*shape, dtype=kind)


def _decoded(
    stream: bytes, coded: Sequence[tuple[str, int, int]], alphabets: Sequence[Alphabet], tables: Sequence[rans.Table]
) -> dict[str, np.ndarray]:
    if not coded:
        return {}
    counts = [count for _, count, _ in coded]
    symbols = rans.decode(stream, np.repeat([table for *_, table in coded], counts), tables)
    parts = np.split(symbols, np.cumsum(counts)[:-1])
    return {name: alphabets[table].data(part) for (name, _, table), part in zip(coded, parts, strict=True)}


def _type(name: str) -> torch.dtype:
    kind = getattr(torch, name)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"no type of tensors: {name}")
    return kind
