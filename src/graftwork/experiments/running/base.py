"""The base of a recipe: found, and loaded with the class and the processor that its tasks need."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import transformers

from graftwork.attach import ModelWithHeads
from graftwork.errors import RecipeError
from graftwork.experiments.planning.tables import BaseTable
from graftwork.tasks import Kind


def find_model(name: str, root: Path) -> str:
    """What transformers can load: a folder, the folder in an installed package, or the name itself for a model on the Hub.

    Raises:
        RecipeError: If the name can only be a folder, and there is none.
    """
    folder = root / Path(name).expanduser() if name.startswith("~/") else root / name
    if is_model(folder):
        return str(folder)
    if re.fullmatch(r"[A-Za-z_][\w-]*", name):  # with a dot, its first part would be imported
        try:
            spec = importlib.util.find_spec(name.replace("-", "_"))
        except (ImportError, ValueError):
            spec = None
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            if is_model(Path(place) / "model"):
                return str(Path(place) / "model")
    if (
        Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    ):  # no name on the Hub is like that
        raise RecipeError(
            f"base: {name!r} is not there: {folder} has no config.json; correct it, or put the base there"
        )
    return name


def is_model(folder: Path) -> bool:
    """Whether a folder has the configuration of a model, or of a tokenizer."""
    try:
        return any((folder / name).is_file() for name in ("config.json", "tokenizer_config.json"))
    except (OSError, ValueError):  # a name that no file can have
        return False


def auto_class(kinds: Collection[type[Kind]]) -> str:
    """The class of transformers that serves all of some kinds of tasks.

    Raises:
        RecipeError: If two of them need different ones.
    """
    special = sorted({kind.auto for kind in kinds} - {"AutoModel"})
    if len(special) > 1:
        raise RecipeError(f"the tasks need a base of the classes {' and '.join(special)}; put them into two recipes")
    return special[0] if special else "AutoModel"


def load_base(table: BaseTable, auto: str, root: Path) -> ModelWithHeads:
    """The base, ready to be given heads, on the accelerator where there is one.

    Raises:
        RecipeError: If it cannot be loaded, or weights are missing.
    """
    where = find_model(table.model, root)
    make: Any = getattr(transformers, auto)
    try:
        model, info = make.from_pretrained(
            where,
            revision=table.revision,
            dtype=getattr(torch, table.dtype),
            output_loading_info=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(
            f"base.model: {table.model!r} cannot be loaded as {auto}: {str(error).strip().splitlines()[0]} (give a folder "
            f"with a config.json, here relative to {root}, an installed package with a model in it, or a name on the Hub)"
        ) from error
    lacking = [name for name in info["missing_keys"] if "pooler" not in name]
    if lacking:
        raise RecipeError(
            f"base.model: {table.model!r} has no weights for {len(lacking)} tensors of {type(model).__name__}, such as "
            f"{lacking[0]!r}; random ones are not filled in: give a model that was saved as {auto}"
        )
    return ModelWithHeads(model).to("cuda" if torch.cuda.is_available() else "cpu")


def load_processor(table: BaseTable, kinds: Collection[type[Kind]], root: Path) -> Any:
    """The tokenizer that the tasks need, or the model's own processor of images, ``None`` if it has none.

    Raises:
        RecipeError: If it cannot be loaded, or texts and images are mixed.
    """
    needed = {kind.processor for kind in kinds}
    if len(needed) > 1:
        raise RecipeError("some tasks are of texts and some of images; put them into two recipes, one base each")
    where = find_model(table.tokenizer or table.model, root)
    if needed == {"image"}:
        try:
            return transformers.AutoImageProcessor.from_pretrained(where, trust_remote_code=False)
        except (OSError, ValueError, KeyError, ImportError):  # it has none, or needs a library that is not installed
            return None
    try:
        return transformers.AutoTokenizer.from_pretrained(where, revision=table.revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise RecipeError(
            f"base.tokenizer: no tokenizer can be loaded from {table.tokenizer or table.model!r}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
