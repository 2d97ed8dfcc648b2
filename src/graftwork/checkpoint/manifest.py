"""What the JSON of a folder says, strictly typed: what is written is exactly what can be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from graftwork.attach import Labels
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import DIGEST
from graftwork.checkpoint.reader import Reader
from graftwork.compose import Composition, Learned, composition_from_dict, composition_to_dict
from graftwork.errors import CheckpointError, GraftworkError

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class HeadRecord:
    """The head that is saved with an adapter or a fusion.

    Attributes:
        model_class: The class that the head belongs to: one of the same class takes it.
        labels: What its outputs stand for.
        modules: The path of each of its modules to the name of the module's class.
        config: What it was made by, as its ``to_dict`` gives it; ``None`` for one of an AutoModelForX.
    """

    model_class: str
    labels: Labels
    modules: dict[str, str]
    config: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The head as JSON values."""
        return {
            "model_class": self.model_class,
            "labels": list(self.labels.names),
            "problem_type": self.labels.problem_type,
            "modules": self.modules,
            "config": self.config,
        }


@dataclasses.dataclass(frozen=True)
class Part:
    """An adapter, a fusion, or a head by itself.

    Attributes:
        kind: ``"adapter"``, ``"fusion"``, or ``"head"`` for a head by itself.
        name: Its name.
        config: Its configuration, as its ``to_dict`` gives it.
        pool: A fusion's block with its pool.
        base: What it was trained on.
        sites: The sites it stands at, with their widths.
        head: Its head, ``None`` where it was trained without one.
        sha256: That of the file with its tensors.
        member_heads: The heads that members of it have of their own.
        members: For a fusion the digest of each adapter of its pool, by name; ``None`` in a file that keeps none.
    """

    kind: str
    name: str
    config: dict[str, Any]
    pool: Learned | None
    base: Fingerprint
    sites: dict[str, int]
    head: HeadRecord | None
    sha256: str
    member_heads: dict[str, HeadRecord] = dataclasses.field(default_factory=dict)
    members: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The part as JSON values."""
        members = {name: head.to_dict() for name, head in self.member_heads.items()}
        return {
            **_preamble(self.kind),
            "name": self.name,
            "config": self.config,
            "pool": composition_to_dict(self.pool),
            "base": self.base.to_dict(),
            "sites": self.sites,
            "head": None if self.head is None else self.head.to_dict(),
            **({"member_heads": members} if members else {}),
            **({} if self.members is None else {"members": self.members}),
            "sha256": self.sha256,
        }


@dataclasses.dataclass(frozen=True)
class Whole:
    """A composition and the names of its parts, which lie in numbered folders under ``adapters``, ``fusions`` and ``heads``.

    Attributes:
        composition: The composition.
        adapters: The adapters in the folder.
        fusions: The fusions in it.
        heads: The heads by themselves in it.
        members: The digest of each adapter that the composition needs and the folder lacks; ``None`` where it keeps none.
        contents: For each part's folder the hash of its manifest; ``None`` in a file that keeps none.
    """

    composition: Composition
    adapters: tuple[str, ...]
    fusions: tuple[str, ...]
    heads: tuple[str, ...] = ()
    members: dict[str, str] | None = None
    contents: dict[str, str] | None = None

    def parts(self) -> Iterator[tuple[str, str, str]]:
        """Each part's folder inside, its kind and its name; a fusion behind those in its pool."""
        for kind, names in (("adapter", self.adapters), ("fusion", self.fusions), ("head", self.heads)):
            for n, name in enumerate(names):
                yield f"{kind}s/{n}", kind, name

    def to_dict(self) -> dict[str, Any]:
        """The composition as JSON values."""
        return {
            **_preamble("composition"),
            "composition": composition_to_dict(self.composition),
            "adapters": list(self.adapters),
            "fusions": list(self.fusions),
            "heads": list(self.heads),
            **({"members": self.members} if self.members else {}),
            **({} if self.contents is None else {"contents": self.contents}),
        }


@dataclasses.dataclass(frozen=True)
class Difference:
    """What a trained base differs in from its original.

    Attributes:
        original: The base that it was made over, a few values of every tensor of it.
        model_class: The class of the model; one of the same takes its own head too, where that learned.
        tensors: The names of the tensors that are kept whole.
        sha256: That of the file with them.
    """

    original: Fingerprint
    model_class: str
    tensors: tuple[str, ...]
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """The difference as JSON values."""
        return {
            **_preamble("base"),
            "original": self.original.to_dict(),
            "model_class": self.model_class,
            "tensors": list(self.tensors),
            "sha256": self.sha256,
        }


def parse(data: Mapping[str, Any], where: str) -> Part | Whole | Difference:
    """A manifest from its JSON values.

    Raises:
        CheckpointError: If a field is missing, unknown or of the wrong type, or the format is newer.
    """
    reader = Reader({key: value for key, value in data.items() if key != DIGEST}, where)
    number = reader.take("format", int)
    if number != FORMAT:
        raise CheckpointError(
            f"{where} has the format {number}, this graftwork reads {FORMAT}; it was written by another version"
        )
    reader.take("graftwork", str)
    kind = reader.take("kind", str)
    try:
        if kind == "composition":
            whole = Whole(
                composition_from_dict(reader.take("composition", (dict, str, type(None)))),
                tuple(reader.texts("adapters")),
                tuple(reader.texts("fusions")),
                tuple(reader.texts("heads")),
                _digests(reader, "members"),
                _digests(reader, "contents"),
            )
            reader.done()
            return whole
        if kind == "base":
            return _difference(reader)
        if kind in ("adapter", "fusion", "head"):
            return _part(kind, reader)
    except GraftworkError as error:
        raise error if isinstance(error, CheckpointError) else CheckpointError(f"{where}: {error}") from error
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError) as error:
        raise CheckpointError(f"{where} is damaged: {error}") from error
    raise CheckpointError(
        f"{where} is of the kind {kind!r}; this graftwork reads adapter, fusion, head, composition and base"
    )


def _difference(reader: Reader) -> Difference:
    original = Fingerprint.read(reader.inner("original"))
    found = Difference(
        original, reader.take("model_class", str), tuple(reader.texts("tensors")), reader.take("sha256", str)
    )
    reader.done()
    return found


def _part(kind: str, reader: Reader) -> Part:
    pool = composition_from_dict(reader.take("pool", (dict, type(None))))
    if (kind == "fusion") != isinstance(pool, Learned):
        raise CheckpointError(f"{reader.where} is damaged: {kind} with the pool {pool!r}")
    sites = reader.inner("sites")
    members = reader.inner("member_heads") if "member_heads" in reader.data else Reader({}, reader.where)
    part = Part(
        kind=kind,
        name=reader.take("name", str),
        config=reader.take("config", dict),
        pool=pool if isinstance(pool, Learned) else None,
        base=Fingerprint.read(reader.inner("base")),
        sites={key: sites.take(key, int) for key in sites.data},
        head=None if reader.take("head", (dict, type(None))) is None else _head(reader.inner("head")),
        sha256=reader.take("sha256", str),
        member_heads={name: _head(members.inner(name)) for name in members.data},
        members=_digests(reader, "members"),
    )
    reader.done()
    return part


def _digests(reader: Reader, key: str) -> dict[str, str] | None:
    if key not in reader.data:
        return None
    found = reader.inner(key)
    return {name: found.take(name, str) for name in found.data}


def _head(head: Reader) -> HeadRecord:
    modules = head.inner("modules")
    labels = Labels(tuple(head.texts("labels")), head.take("problem_type", (str, type(None))))
    paths = {path: modules.take(path, str) for path in modules.data}
    record = HeadRecord(head.take("model_class", str), labels, paths, head.take("config", (dict, type(None))))
    head.done()
    return record


def _preamble(kind: str) -> dict[str, Any]:
    try:
        installed = version("graftwork")
    except PackageNotFoundError:  # run from its sources
        installed = "unknown"
    return {"format": FORMAT, "graftwork": installed, "kind": kind}
