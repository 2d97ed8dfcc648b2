"""The JSON of a folder as pydantic models that check it strictly: what is written is exactly what can be read."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.functional_validators import AfterValidator, BeforeValidator, InstanceOf, model_validator

from graftwork.attach import Labels
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.json_files import DIGEST, MANIFEST, read_manifest
from graftwork.checkpoint.migration import FORMAT, as_newest
from graftwork.compose import Block, Learned, composition_from_dict, composition_to_dict
from graftwork.errors import CheckpointError, GraftworkError
from graftwork.weights.samples import Sample

_LEFT_OUT: dict[str, Any] = {"member_heads": {}, "members": None, "contents": None}  # not written with these values
_WAY_OUT = "copy the folder again, or save it anew"


class Record(BaseModel):
    """An object in a manifest: every field has exactly its type, and there are no other fields."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", protected_namespaces=())


def _sample(text: str) -> Sample:
    return tuple(None if value == "None" else float(value) for value in text.split())


class _Stack(Record):
    layers: int
    width: int


class _Base(Record):
    model_type: str
    model_class: str
    stacks: dict[str, _Stack]
    samples: dict[str, Annotated[str, AfterValidator(_sample)]]
    rows: dict[str, int] = {}


def _fingerprint(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = dict(_Base.model_validate(value))
    return Fingerprint(**{**found, "stacks": {name: (s.layers, s.width) for name, s in found["stacks"].items()}})


def _composition(value: Any) -> Any:
    try:
        return composition_from_dict(value) if isinstance(value, dict) else value
    except GraftworkError as error:  # pydantic would take a ValueError for its own
        raise CheckpointError(str(error)) from error


Texts = Annotated[tuple[str, ...], Field(strict=False)]  # in JSON a list
KnownBase = Annotated[InstanceOf[Fingerprint], BeforeValidator(_fingerprint), PlainSerializer(Fingerprint.to_dict)]
Pool = Annotated[InstanceOf[Learned] | None, BeforeValidator(_composition), PlainSerializer(composition_to_dict)]
BlockOrName = Annotated[
    InstanceOf[Block] | str | None, BeforeValidator(_composition), PlainSerializer(composition_to_dict)
]


class HeadRecord(Record):
    """The head that is saved with an adapter or a fusion.

    Attributes:
        model_class: The class that the head belongs to: one of the same class takes it.
        names: The names of its labels, in order.
        problem_type: As in a model's configuration.
        modules: The path of each of its modules, and the name of the module's class.
        config: Its configuration as JSON values; ``None`` for a head of an AutoModelForX.
    """

    model_class: str
    names: Texts = Field(alias="labels")
    problem_type: str | None
    modules: dict[str, str]
    config: dict[str, Any] | None

    @property
    def labels(self) -> Labels:
        """The names of its outputs, and what problem they are for."""
        return Labels(self.names, self.problem_type)


def _version() -> str:
    try:
        return version("graftwork")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


class Manifest(Record):
    """What every manifest begins with: the format, the version of graftwork that wrote it, the kind of content."""

    format: int = FORMAT
    graftwork: str = Field(default_factory=_version)
    kind: str

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        return {k: v for k, v in self.model_dump(by_alias=True).items() if k not in _LEFT_OUT or v != _LEFT_OUT[k]}


class AdapterManifest(Manifest):
    """An adapter, a fusion, or a head by itself.

    Attributes:
        name: Its name.
        config: Its configuration as JSON values.
        pool: A fusion's block with its pool.
        base: The base that it was trained on.
        sites: The keys of its sites, with their widths.
        head: Its head, ``None`` where it was trained without one.
        member_heads: The heads of its members, by the member's name.
        members: For a fusion the digest of each adapter of its pool, by name; ``None`` in a file that has none.
        sha256: The hash of the file with its tensors.
    """

    kind: Literal["adapter", "fusion", "head"]
    name: str
    config: dict[str, Any]
    pool: Pool
    base: KnownBase
    sites: dict[str, int]
    head: HeadRecord | None
    member_heads: dict[str, HeadRecord] = {}
    members: dict[str, str] | None = None
    sha256: str

    @model_validator(mode="after")
    def _has_its_pool(self) -> AdapterManifest:
        if (self.kind == "fusion") != (self.pool is not None):
            raise CheckpointError(f"it is damaged, a {self.kind} with the pool {self.pool!r}; {_WAY_OUT}")
        return self


class CompositionManifest(Manifest):
    """A composition and the names of its parts, which are in numbered folders under ``adapters``, ``fusions`` and ``heads``.

    Attributes:
        composition: The composition.
        adapters: The names of the adapters in the folder.
        fusions: The names of the fusions in it.
        heads: The names of the heads in it that belong to no adapter or fusion.
        members: The digest of each adapter that the composition needs and the folder lacks; ``None`` in a file that has none.
        contents: For each part's folder the hash of its manifest; ``None`` in a file that has none.
    """

    kind: Literal["composition"] = "composition"
    composition: BlockOrName
    adapters: Texts
    fusions: Texts
    heads: Texts
    members: dict[str, str] | None = None
    contents: dict[str, str] | None = None

    def parts(self) -> Iterator[tuple[str, str, str]]:
        """Yield each part's folder inside, its kind and its name; a fusion after the fusions in its pool."""
        for kind, names in (("adapter", self.adapters), ("fusion", self.fusions), ("head", self.heads)):
            for n, name in enumerate(names):
                yield f"{kind}s/{n}", kind, name


class Difference(Manifest):
    """The difference between a trained base and its original.

    Attributes:
        original: The original, with a few values of each of its tensors.
        model_class: The class of the model; only a model of this class takes the trained head of the model too.
        tensors: The names of the tensors in the file, each of which is kept whole.
        sha256: The hash of the file with its tensors.
    """

    kind: Literal["base"] = "base"
    original: KnownBase
    model_class: str
    tensors: Texts
    sha256: str


AnyManifest = AdapterManifest | CompositionManifest | Difference
_KNOWN: TypeAdapter[AnyManifest] = TypeAdapter(Annotated[AnyManifest, Field(discriminator="kind")])


def title(held: AnyManifest) -> str:
    """The name of a folder's content in messages."""
    if isinstance(held, AdapterManifest):
        return f"{held.kind} {held.name!r}"
    return "composition" if isinstance(held, CompositionManifest) else "difference of a base"


def manifest_in(folder: Path) -> tuple[AnyManifest, str | None]:
    """Return the manifest of a folder, and its hash, ``None`` where it has none.

    Raises:
        CheckpointError: If it is missing or damaged, a field is missing, unknown or of the wrong type, or the format is newer.
    """
    fields, where = read_manifest(folder), str(folder / MANIFEST)
    digest = fields.pop(DIGEST, None)
    fields = as_newest(fields)
    wrong = [f"it lacks {key!r}" for key in ("format", "graftwork", "kind") if key not in fields]
    wrong += [f"{key!r} is None" for key in _LEFT_OUT if fields.get(key, "") is None]
    if wrong:
        raise CheckpointError(f"{where} is damaged: {wrong[0]}; {_WAY_OUT}")
    try:
        return _KNOWN.validate_python(fields), digest
    except ValidationError as error:
        raise CheckpointError(_sentence(error, fields, where)) from error
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    except (TypeError, AttributeError, KeyError, ArithmeticError) as error:
        raise CheckpointError(f"{where} is damaged: {error}; {_WAY_OUT}") from error


def _sentence(error: ValidationError, value: Any, where: str) -> str:
    """Return the message for the first error in a manifest: the file, the key, its value, and the way out."""
    first, *others = error.errors(include_url=False)
    if first["type"] == "union_tag_invalid":
        return f"{where} is of the kind {value['kind']!r:.80}; this graftwork reads {first['ctx']['expected_tags']}"
    missing = first["type"] == "missing"
    keys: list[str] = []
    for key in first["loc"][1:]:  # the first is the kind
        if isinstance(value, dict) and key in value:  # else a place in a list
            keys.append(f"{key!r:.80}")
            value = value[key]
    *outer, key = [*keys, f"{first['loc'][-1]!r:.80}"] if missing else keys or ["it"]
    place = f"{', '.join([where, *outer])}," if outer else where
    if first["type"] == "extra_forbidden":
        unknown = [one["loc"][-1] for one in (first, *others) if one["loc"][:-1] == first["loc"][:-1]]
        return f"{place} has unknown fields {reprlib.repr(unknown)}; it was written by another version, or by hand"
    what = f"it lacks {key}" if missing else f"{key} is {reprlib.repr(value)} ({first['msg']})"
    return f"{place} is damaged: {what}; {_WAY_OUT}"


@contextlib.contextmanager
def refused_where_too_deep(folder: Path) -> Iterator[None]:
    """Raise a `CheckpointError` for JSON that is nested more deeply than Python's stack."""
    try:
        yield
    except RecursionError as error:
        raise CheckpointError(f"{folder} is damaged: {MANIFEST} is nested too deeply; {_WAY_OUT}") from error
