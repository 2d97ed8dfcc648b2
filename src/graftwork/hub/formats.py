"""Which files of a repository, or of a folder in it, are those of a format that is read here."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from graftwork.checkpoint.adapterhub.files import ADAPTER, FUSION, HEAD, INTERFACE, SETUP
from graftwork.checkpoint.folders import TENSORS, is_own_file
from graftwork.checkpoint.json_files import LARGEST, MANIFEST
from graftwork.checkpoint.peft_files import PICKLE
from graftwork.checkpoint.peft_files import TENSORS as PEFT_TENSORS
from graftwork.errors import HubError

# The files by which a folder of a format is known, the first of them first.
MARKERS = (MANIFEST, SETUP, ADAPTER.config, FUSION.config, HEAD.config)
_TENSORS = {
    HEAD.config: (HEAD.tensors, HEAD.older),
    FUSION.config: (FUSION.tensors, FUSION.older),
    ADAPTER.config: (ADAPTER.tensors, ADAPTER.older, PEFT_TENSORS),
}
_THEIRS = {SETUP, INTERFACE, *_TENSORS, *(name for names in _TENSORS.values() for name in names)}
_BASE = TENSORS["base"]  # the difference of a trained base, which is no adapter


def format_of(paths: Collection[str]) -> str | None:
    """The format of the files at the top of a folder: as `Adapters.save` calls it, ``None`` where there is none."""
    if MANIFEST in paths:
        return "graftwork"
    if PEFT_TENSORS in paths or PICKLE in paths:
        return "peft"
    return "adapterhub" if any(marker in paths for marker in MARKERS) else None


def files_of_a_format(paths: Collection[str], form: str) -> set[str]:
    """The files, among those of a folder, that belong to a format."""
    if form == "graftwork":
        return {path for path in paths if is_own_file(path)}
    deepest = 1 if form == "adapterhub" and SETUP in paths else 0
    return {path for path in paths if path.count("/") <= deepest and path.rpartition("/")[2] in _THEIRS}


def needed(sizes: Mapping[str, int], where: str) -> list[str]:
    """The files that are downloaded of a folder, that by which its format is known last.

    Args:
        sizes: The size in bytes of each file by its path in the folder.
        where: The folder, for messages.

    Raises:
        HubError: If it has none of the formats, or its weights are missing, or in a file that is not read.
    """
    if MANIFEST in sizes:
        own = [path for path in sizes if is_own_file(path) and path not in (MANIFEST, _BASE)]
        return [*own, MANIFEST]
    if SETUP in sizes:
        inside = sorted({path.partition("/")[0] for path in sizes if path.count("/") == 1 and _is_part(path)})
        parts = [path for folder in inside for path in _parts(sizes, where, f"{folder}/")]
        return [*parts, *([INTERFACE] if INTERFACE in sizes else []), SETUP]
    found = _parts(sizes, where)
    if not found:
        raise HubError(
            f"{where} holds no adapter: none of {', '.join(MARKERS)} (it has {_some(sizes)}); if the adapter is in a folder "
            "inside, give it as subfolder"
        )
    return found


def require_small(files: Mapping[str, int], where: str, largest: int) -> None:
    """Refuse files that together are larger than any adapter of the model can be.

    Args:
        files: The size in bytes of each file.
        where: Where they are, for messages.
        largest: The most bytes.

    Raises:
        HubError: If they are larger, or a file of JSON is.
    """
    total = sum(files.values())
    if total > largest:
        name = max(files, key=lambda path: files[path])
        raise HubError(
            f"{where} announces {total:,d} bytes ({name} alone {files[name]:,d}), and for this model at most {largest:,d} are "
            "downloaded; nothing was. If that is right, download it yourself (`hf download`), and load the folder"
        )
    for path, size in files.items():
        if path.endswith(".json") and size > LARGEST:
            raise HubError(f"{where}: {path} announces {size:,d} bytes; no such file is larger than {LARGEST:,d}")


def _is_part(path: str) -> bool:
    return path.rpartition("/")[2] in _TENSORS and ".." not in path and "\\" not in path


def _parts(sizes: Mapping[str, int], where: str, start: str = "") -> list[str]:
    """The files of an adapter, a fusion and a head in one folder of AdapterHub's format, or of an adapter in peft's."""
    found = []
    for config, names in _TENSORS.items():
        if start + config not in sizes:
            continue
        tensors = next((start + name for name in names if start + name in sizes), None)
        if tensors is None and start + PICKLE in sizes:
            raise HubError(
                f"{where} has its weights only in {start}{PICKLE}, a pickle, which may run code when it is read; nothing was "
                "downloaded. Save it anew with peft, which writes safetensors"
            )
        if tensors is None:
            raise HubError(
                f"{where} has {start}{config}, and its weights in none of {', '.join(names)} (it has {_some(sizes)}); nothing "
                "was downloaded"
            )
        found += [tensors, start + config]
    if found and start + INTERFACE in sizes:
        found.insert(0, start + INTERFACE)
    return found


def _some(paths: Collection[str]) -> str:
    names = [repr(path)[1:-1] for path in sorted(paths)]
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "") or "nothing"
