"""The text of a file, unpacked and decoded."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from graftwork.errors import TaskError
from graftwork.tasks.rows import Place

# UTF-32 first: its mark begins with that of UTF-16
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_TIMES, _SMALL, _PIECE = 40, 4 << 20, 1 << 20


def text_of(path: Path) -> str:
    """The text of a file, unpacked where it ends in ``.gz``.

    It is UTF-8, or UTF-16 or UTF-32 with a byte order mark.
    """
    data = _unpacked(path) if path.name.lower().endswith(".gz") else path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TaskError(_undecodable(path, data, encoding, error)) from error
    if "\0" in text:
        raise TaskError(
            f"{path} has NUL characters, as UTF-16 without a byte order mark has; save the file as UTF-8 "
            "(iconv -f utf-16le -t utf-8)"
        )
    return text


def require_bounded(path: Path | Place, packed: int, size: int) -> None:
    """Refuse data that unpacks to far more than it is: from ``packed`` bytes to ``size``, as far as is known."""
    if size > max(_SMALL, _TIMES * packed):
        raise TaskError(
            f"{path} has {packed:,} bytes and unpacks to more than {_TIMES} times as many, as hardly any data does; if it is what "
            "it should be, unpack it and give the unpacked file"
        )


def _unpacked(path: Path) -> bytes:
    packed, size = path.stat().st_size, 0
    try:
        with gzip.open(path) as file:  # once to see how much it is, without keeping it
            while piece := file.read(_PIECE):
                size += len(piece)
                require_bounded(path, packed, size)
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, OSError, zlib.error) as error:
        raise TaskError(f"{path} is truncated or damaged ({error}); copy it again") from error


def _undecodable(path: Path, data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    if encoding != "utf-8":
        named = encoding.removesuffix("-sig").upper()
        return f"{path} begins as {named} and is none (byte {error.start + 1}: {error.reason}); save it as UTF-8"
    line = data.count(b"\n", 0, error.start) + 1
    byte = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
    return (
        f"{path}:{line}: byte {byte} of the line, 0x{data[error.start]:02x}, is no UTF-8; save the file as UTF-8 "
        "(iconv -f cp1252 -t utf-8, if a program of Windows wrote it)"
    )
