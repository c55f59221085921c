"""Image files in a folder, a zip or a tar archive, one after the other. Archives are read where they lie: nothing is unpacked."""

import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from slimline.data.sources.item import Unreadable
from slimline.errors import SlimlineError

READ = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"})
NOT_READ = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".pdf", ".eps", ".tga", ".pgm", ".ppm", ".pbm", ".ico", ".raw", ".dng"}
    | {".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".exr", ".hdr", ".dcm"}
)
"""Pictures too, though of formats that are not read: told instead of passed over, since whoever put them there wanted them in."""
CALLED_IMAGES = READ | NOT_READ

LARGEST_FILE = 256 * 2**20
"""Bytes of one image file in an archive, unpacked; a larger one is no photograph but a trap for memory."""
LARGEST_HEADER = 2**20
"""Bytes of an extended tar header; tarfile would read any length into memory."""
LARGEST_MEMBER = 2**36
"""Bytes of any file in an archive; tarfile would look for the end of a larger one for hours, where there is none."""
EXTENDED = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})


class File(NamedTuple):
    """One file that is called an image.

    Args:
        parts: its path below the folder or within the archive; the last one is its own name. An absolute path starts with "".
        content: where to read it, its bytes, or why neither can be had.
        share: how much of the whole has been read with it, 0 to 1.
    """

    parts: tuple[str, ...]
    content: bytes | Path | Unreadable
    share: float


def image_files(place: Path) -> Iterator[File]:
    """Every file of `place` that is called an image. Hidden files are passed over, and so is what is called no picture.

    Raises:
        SlimlineError: `place` is neither a folder nor a readable archive.
    """
    if place.is_dir():
        return _in_folder(place)
    if not place.is_file():
        raise SlimlineError(f"{place}: neither a folder nor a file; name one that holds images")
    with place.open("rb") as file:
        starts_as_zip = file.read(2) == b"PK"  # zipfile itself looks at the end, where a tar may hold a zip
    return _in_zip(place) if starts_as_zip else _in_tar(place)


def printable(name: str) -> str:
    """`name` on one line that can be printed: bytes that are no UTF-8, line breaks and other controls become escapes."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _parts(name: str) -> tuple[str, ...]:
    """`name` in parts, those left out that lead nowhere. (pathlib does this at four times the cost, which counts for a million names.)"""
    return tuple(part for place, part in enumerate(name.split("/")) if part != "." and (part or place == 0))


def _suffix(parts: tuple[str, ...]) -> str:
    stem, dot, kind = parts[-1].rpartition(".") if parts else ("", "", "")
    return f".{kind.lower()}" if stem and dot else ""


def _hidden(parts: tuple[str, ...]) -> bool:
    return any((part[:1] == "." and part != "..") or part == "__MACOSX" for part in parts)


def _wanted(parts: tuple[str, ...]) -> bool:
    return not _hidden(parts) and _suffix(parts) in CALLED_IMAGES


def _refused(parts: tuple[str, ...]) -> Unreadable | None:
    """What is wrong with a name, if anything."""
    if parts[0] == "" or ".." in parts:
        return Unreadable("leads out of its archive; pack the images with relative names")
    if (suffix := _suffix(parts)) in NOT_READ:
        return Unreadable(f"is a picture of a format that is not read ({suffix}); convert it to PNG or JPEG")
    return None


def _in_folder(place: Path) -> Iterator[File]:
    count = sum(1 for _ in _walk(place))
    for number, path in enumerate(_walk(place), start=1):
        parts = path.relative_to(place).parts
        content: Path | Unreadable = path
        if path.is_dir():
            content = Unreadable("is a link to a folder, into which DVC does not look; copy or move the images here")
        elif not path.is_file():
            content = Unreadable("is no regular file, or a link to nothing; remove it")
        yield File(parts, _refused(parts) or content, number / count)


def _walk(folder: Path) -> Iterator[Path]:
    """What is wanted below `folder`, in the order of names, and every link to a folder."""
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if path.is_dir() and not (path.is_symlink() and path != folder):
            waiting += sorted((inner for inner in path.iterdir() if not _hidden((inner.name,))), reverse=True)
        elif _is_folder(path) or _wanted((path.name,)):
            yield path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to itself
        return False


def _in_zip(place: Path) -> Iterator[File]:
    try:
        with zipfile.ZipFile(place) as archive:
            # Windows' own packers once wrote backslashes, against the format.
            named = [(_parts(member.filename.replace("\\", "/")), member) for member in archive.infolist() if not member.is_dir()]
            wanted = [(parts, member) for parts, member in named if _wanted(parts)]
            for number, (parts, member) in enumerate(wanted, start=1):
                yield File(parts, _refused(parts) or _unzipped(archive, member), number / len(wanted))
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise SlimlineError(f"{place}: no readable archive ({printable(str(error))}); pack it again") from error


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | Unreadable:
    if stat.S_ISLNK(member.external_attr >> 16):
        return Unreadable("is a symbolic link; pack the file itself")
    if member.flag_bits & 1:
        return Unreadable("is encrypted; pack it without a password")
    if member.file_size > LARGEST_FILE:
        return Unreadable(f"takes {member.file_size:,} bytes unpacked, and {LARGEST_FILE:,} are read at most")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Unreadable("is packed by a method that is not read; pack it with deflate")
    try:
        with archive.open(member) as stream:
            # The size given bounds what is inflated at once; without one, zipfile inflates all that a lying header hides.
            return stream.read(member.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        return Unreadable(f"cannot be unpacked ({printable(str(error))}); pack it again")


class _Member(tarfile.TarInfo):
    """A member of an archive that must end with its end mark, with headers of a length that somebody meant."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        try:
            member = super().fromtarfile(archive)
            if member.size > LARGEST_MEMBER:
                raise tarfile.ReadError(f"it tells of a file of {member.size:,} bytes")
            return member
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            # tarfile itself takes the place where a file was cut off for its end.
            raise tarfile.ReadError(f"it ends too early or is damaged: {error}") from error

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in EXTENDED and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def _in_tar(place: Path) -> Iterator[File]:
    size = max(place.stat().st_size, 1)
    try:
        with place.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember every member it passed
                if not member.isdir() and _wanted(parts := _parts(member.name)):
                    yield File(parts, _refused(parts) or _untarred(archive, member), min(stream.tell() / size, 1.0))
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        message = f"{place}: no readable archive ({printable(str(error))}); give a folder, a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2"
        raise SlimlineError(message) from error


def _untarred(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Unreadable:
    if member.issym() or member.islnk():
        return Unreadable("is a link; pack the file itself (tar --dereference --hard-dereference)")
    if not member.isreg():
        return Unreadable("is no regular file; leave it out")
    if member.size > LARGEST_FILE:
        return Unreadable(f"takes {member.size:,} bytes unpacked, and {LARGEST_FILE:,} are read at most")
    extracted = archive.extractfile(member)
    assert extracted is not None, "a regular file"
    return extracted.read()
