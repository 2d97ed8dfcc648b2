"""The card of a repository: README.md with the metadata that the Hub reads, made from facts alone.

Names and options may come from files of others. In the metadata they are written by a writer of YAML, in the text with all
characters escaped that mean something in Markdown. The last line has a hash of what stands before it, by which a card that a
person has changed is known.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from graftwork.compose import Block, Composition
from graftwork.hub.facts import Contents, Score, TrainingFacts

CARD = "README.md"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#!|~&$@^])")
_LINK = re.compile(r"(?i)(https?|ftp|www)([:.])")
_MARK = re.compile(r"<!-- Written by graftwork \(sha256 ([0-9a-f]{64})\)[^\n]*-->\n*\Z")
_SHOWN = 8  # labels of a head
_LIBRARIES = {"peft": "peft", "adapterhub": "adapter-transformers"}  # the tags that the Hub knows their files by


def card(
    repository: str,
    what: Composition,
    contents: Contents,
    training: TrainingFacts | None,
    *,
    form: str = "graftwork",
    revision: str | None = None,
    license: str | None = None,
    tags: Sequence[str] = (),
    versions: dict[str, str] | None = None,
) -> str:
    """The text of a card.

    Args:
        repository: The id of the repository.
        what: What is sent.
        contents: What is known of it.
        training: How it was trained, where that is known.
        form: The format of the files.
        revision: The branch that it is sent to, where that is not the main one.
        license: The license, as the Hub names it.
        tags: Tags in addition to those by which the Hub finds adapters.
        versions: The versions of libraries at the end.
    """
    pages = Environment(
        loader=PackageLoader("graftwork", "hub"),
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the text is Markdown, which `finalize` escapes
    )
    name = repository.rpartition("/")[2]
    made_with = (versions or {}) if training is None or not training.versions else training.versions
    options = {part.name: part.options for part in contents.parts}
    text = pages.get_template("templates/card.md").render(
        metadata=Markup(_metadata(name, contents, training, form, license, tags)),
        name=name,
        base=None if contents.base is None else Markup(contents.base),
        base_type=contents.base_type,
        parts=[{**vars(part), "labels": _labels(part.labels)} for part in contents.parts],
        code=Markup(_code(repository, contents, revision)),
        composition=Markup(repr(what)) if isinstance(what, Block) else None,
        options=Markup(json.dumps(options, indent=1, ensure_ascii=True, default=str)),
        form=form,
        training=training,
        made_with=", ".join(f"{name} {version}" for name, version in made_with.items()),
    )
    text = re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n\n"
    return f"{text}<!-- Written by graftwork (sha256 {_hash(text)}); a card that a person has changed is kept. -->\n"


def is_unchanged(text: str) -> bool:
    """Whether a card is as `card` wrote it."""
    text = text.replace("\r\n", "\n")
    mark = _MARK.search(text)
    return mark is not None and mark[1] == _hash(text[: mark.start()])


def plain(text: str) -> str:
    """A text in one line of Markdown, with no markup in it."""
    return _LINK.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", one_line(text)))


def one_line(text: str) -> str:
    """A text in one line, without characters that are not seen."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _finalized(value: Any) -> Any:
    return value if isinstance(value, (Markup, int)) else plain(str(value))


def _metadata(
    name: str,
    contents: Contents,
    training: TrainingFacts | None,
    form: str,
    license: str | None,
    tags: Sequence[str],
) -> str:
    results = [] if training is None else [_result(score, training) for score in training.scores]
    data = ModelCardData(
        base_model=contents.base,
        library_name="graftwork",
        license=license,
        tags=list(dict.fromkeys(["graftwork", "adapter", *([_LIBRARIES[form]] if form in _LIBRARIES else []), *tags])),
        pipeline_tag=None if training is None else training.task_type,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().rstrip() + "\n"


def _result(score: Score, training: TrainingFacts) -> EvalResult:
    return EvalResult(
        task_type=training.task_type,
        dataset_type=one_line(training.task),
        dataset_name=one_line(training.data),
        dataset_split=one_line(score.split),
        metric_type=one_line(score.metric),
        metric_value=score.mean,
        metric_name=f"{one_line(score.metric)}, mean of {len(score.seeds)} seed(s)",
    )


def _code(repository: str, contents: Contents, revision: str | None) -> str:
    """The code that loads and activates it."""
    at = "" if revision is None else f", revision={revision!r}"
    first = [f"# load {', '.join(map(repr, contents.missing))} first"] if contents.missing else []
    uses = ["import transformers"] if "transformers." in contents.make else []
    lines = [*uses, "import graftwork as gw", "", f"model = {contents.make}", "adapters = gw.attach(model)", *first]
    loaded = f"adapters.load({repository!r}{at})"
    last = f"None, head={loaded}" if contents.parts[0].kind == "head" else loaded
    return "\n".join([*lines, f"adapters.activate({last})"])


def _labels(labels: tuple[str, ...] | None) -> str:
    if labels is None:
        return "–"
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
