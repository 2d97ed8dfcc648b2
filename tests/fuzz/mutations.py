"""Files changed at random: bits, bytes and pieces of any, values and keys of JSON, headers of tensors."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from graftwork.checkpoint.json_files import MANIFEST, dump

_TENSORS = ".safetensors"
ODD: list[Callable[[Random], Any]] = [
    lambda _: None,
    lambda draw: draw.choice([True, False]),
    lambda draw: draw.choice([-1, 0, 1, 2, 7, 2**31, 10**8, 10**12, -(10**30), 10**400]),
    lambda draw: draw.choice([0.5, -0.0, 1e-320, 1e308, 1.5e9]),
    lambda draw: draw.choice(
        ["", " ", "x", "\0", "\ud800", "\u202e", "a" * 300, "../../etc", "evilmod.x", "(.+)+$", "{}"]
    ),
    lambda draw: draw.choice([[], {}, [[]], [None], {"": 0}, [1] * 1000, {"peft_type": "LORA"}]),
    lambda draw: _nested(draw.choice([5, 100, 20_000])),
]


def mutated(path: Path, data: bytes, draw: Random) -> bytes:
    """The bytes of a file with one to three changes."""
    for _ in range(draw.randint(1, 3)):
        kinds: list[Callable[[bytes, Random], bytes]] = [_bit, _byte, _cut, _repeated, _inserted, _blank, _exchanged]
        if path.suffix in (".json", ".jsonl"):
            kinds = [_bit, _cut, *[_in_json] * 5]
        if path.suffix == _TENSORS:
            kinds += [_in_header] * 4
        data = draw.choice(kinds)(data, draw)
    return data


def renewed(folder: Path, files: Mapping[Path, bytes]) -> dict[Path, bytes]:
    """Write every manifest in a folder with the hashes that a careful forger would give it; returns those that changed.

    ``files`` are the folder's files as they are.
    """
    now = dict(files)
    for path in sorted(files, key=lambda p: -len(p.parts)):  # the inmost first
        if path.name not in (MANIFEST, "finder.json"):
            continue
        try:
            data = json.loads(now[path])
            tensors = [data for other, data in now.items() if other.parent == path.parent and other.suffix == _TENSORS]
            for key in {"sha256", "tensors"} & data.keys():
                if isinstance(data[key], str):
                    data[key] = hashlib.sha256(tensors[0]).hexdigest()
            for place in data.get("contents", {}):
                data["contents"][place] = json.loads(now[path.parent / place / MANIFEST])["digest"]
            now[path] = dump(data) if path.name == MANIFEST else json.dumps(data).encode()
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError):
            continue  # too damaged to be renewed
    found = {path: data for path, data in now.items() if data != files[path]}
    for path, data in found.items():
        path.write_bytes(data)
    return found


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(min(depth, 500)):  # deeper than json writes
        found = [found]
    return found


def _bit(data: bytes, draw: Random) -> bytes:
    if not data:
        return b"\x01"
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def _byte(data: bytes, draw: Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]


def _cut(data: bytes, draw: Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _repeated(data: bytes, draw: Random) -> bytes:
    start, size = draw.randrange(len(data) + 1), draw.randint(1, 200)
    return data[:start] + data[start : start + size] * draw.choice([2, 3, 50]) + data[start:]


def _inserted(data: bytes, draw: Random) -> bytes:
    start = draw.randrange(len(data) + 1)
    pieces = [
        b'"',
        b"\0",
        b"\r",
        b"\n\n",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"[" * 5000,
        b"9" * 5000,
        b",,",
        b"\x1b]0;x\x07",
    ]
    return data[:start] + draw.choice(pieces) + data[start:]


def _blank(data: bytes, draw: Random) -> bytes:
    start = draw.randrange(len(data) + 1)
    size = min(draw.randint(1, 64), len(data) - start)
    return data[:start] + bytes(size) + data[start + size :]


def _exchanged(data: bytes, draw: Random) -> bytes:
    one, other = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:one] + data[other : other + 40] + data[one + 40 : other] + data[one : one + 40] + data[other + 40 :]


def _in_json(data: bytes, draw: Random) -> bytes:
    """One value, key or line of JSON (or of a file of JSON lines) replaced, dropped, doubled or moved."""
    lines = data.split(b"\n") if data.count(b"\n{") else [data]
    place = draw.randrange(len(lines))
    try:
        found = json.loads(lines[place])
        lines[place] = _changed(found, draw)
    except (ValueError, RecursionError):
        return _bit(data, draw)
    return b"\n".join(lines)


def _changed(value: Any, draw: Random) -> bytes:
    inner = [node for node in _nodes(value) if node]
    if not inner:
        return json.dumps(draw.choice(ODD)(draw)).encode()
    node = draw.choice(inner)
    key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
    what = draw.randrange(6)
    if what == 0:
        del node[key]
    elif what == 1 and isinstance(node, dict):
        node[draw.choice([f"{key}x", "", "__class__", str(draw.random())])] = node.pop(key)
    elif what == 2:
        other = draw.choice(inner)
        there = draw.choice(list(other) if isinstance(other, dict) else range(len(other)))
        node[key], other[there] = other[there], node[key]
    elif what == 3 and isinstance(node, dict):
        text = json.dumps(value)
        return text.replace(json.dumps(key), f"{json.dumps(key)}: 0, {json.dumps(key)}", 1).encode()
    else:
        node[key] = draw.choice(ODD)(draw)
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):  # a list that was put into itself
        return b"[" * 3000


def _nodes(value: Any) -> list[Any]:
    """All objects and lists inside, a few hundred levels deep."""
    found, waiting = [], [value]
    while waiting and len(found) < 2000:
        one = waiting.pop()
        if isinstance(one, (dict, list)):
            found.append(one)
            waiting += one.values() if isinstance(one, dict) else one
    return found


def _in_header(data: bytes, draw: Random) -> bytes:
    """The JSON in front of the tensors of a safetensors file changed, its length said or not."""
    if len(data) < 8:
        return _bit(data, draw)
    (size,) = struct.unpack("<Q", data[:8])
    header = _in_json(data[8 : 8 + min(size, len(data))], draw)
    said = len(header) if draw.random() < 0.8 else draw.choice([0, 1, 2**20, 2**40, 2**63, 2**64 - 1])
    return struct.pack("<Q", said) + header + data[8 + size :]
