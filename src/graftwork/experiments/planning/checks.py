"""What is looked at before anything is read: that the base fits the tasks, by its configuration alone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from graftwork.errors import RecipeError
from graftwork.experiments.planning.recipe import Recipe
from graftwork.methods import Peft
from graftwork.tasks import kinds

# What a class of transformers is given first, and what a configuration of several parts calls the part that takes it.
_READS = {"input_ids": "texts", "pixel_values": "images"}
_PARTS = {"texts": "text_config", "images": "vision_config"}
# How configurations call the number of positions, and modules the table of them.
_NUMBERS = (
    "max_position_embeddings",
    "n_positions",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)
_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe")


def check_before(recipe: Recipe, where: str) -> None:
    """Refuse a base that reads something else than the tasks have, or has positions for fewer tokens than are asked for.

    Args:
        recipe: The recipe.
        where: The base, as transformers finds it; where its configuration cannot be read, loading it says so.

    Raises:
        RecipeError: Naming the key; also that of a library that is not installed.
    """
    if recipe.training.tensorboard:
        require_tensorboard()
    try:
        config = transformers.AutoConfig.from_pretrained(where, revision=recipe.base.revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return
    _check_modality(recipe, config)
    if any(kind.processor == "tokenizer" for kind in recipe.kinds):
        _check_positions(recipe, config)


def require_tensorboard() -> None:
    """Refuse where TensorBoard is not installed.

    Raises:
        RecipeError: If so.
    """
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise RecipeError(
            "training.tensorboard needs TensorBoard: pip install 'graftwork[reports]', or say tensorboard = false"
        ) from error


def _check_modality(recipe: Recipe, config: Any) -> None:
    classes: Any = MODEL_MAPPING.get(type(config), ())
    classes = classes if isinstance(classes, tuple) else (classes,)
    reads = {_READS.get(one.main_input_name) for one in classes}
    for name, task in recipe.tasks.items():
        wanted = "images" if task.kind in kinds and kinds[task.kind].processor == "image" else "texts"
        if reads and None not in reads and wanted not in reads and not hasattr(config, _PARTS[wanted]):
            raise RecipeError(
                f"tasks.{name}: {task.kind} is of {wanted}, and base.model = {recipe.base.model!r} ({config.model_type}) reads "
                f"{' or '.join(sorted(map(str, reads)))}; give another base, or another kind"
            )


def _check_positions(recipe: Recipe, config: Any) -> None:
    asked = list(_lengths(recipe))
    numbers = [value for name in _NUMBERS if isinstance(value := getattr(config, name, None), int) and value > 0]
    if not numbers or max(length for _, length, _ in asked) + 8 < min(
        numbers
    ):  # some tables have rows that no token uses
        return
    inputs, outputs = _positions(config)
    for key, length, written in asked:
        most = outputs if written else inputs
        if most is not None and length > most:
            raise RecipeError(
                f"{key} is {length}, and base.model = {recipe.base.model!r} has positions for {most} tokens; give {most} or less"
            )


def _lengths(recipe: Recipe) -> Iterator[tuple[str, int, bool]]:
    """The key of each length that is asked for, the length with virtual tokens in front, and whether it is of what is written."""
    virtual = max((_virtual(recipe, method) for method in ("", *recipe.methods)), default=0)
    tables: dict[str, Any] = {"tasks": recipe.tasks, "languages": recipe.languages, "knowledge": recipe.knowledge}
    behind = f" (with {virtual} virtual tokens in front)" if virtual else ""
    for table, entries in tables.items():
        for name, entry in entries.items():
            where = f"{table}.{name}.max_length" if entry.max_length else "base.max_length"
            yield f"{where}{behind}", (entry.max_length or recipe.base.max_length) + virtual, False
            if getattr(entry, "kind", "") == "text_to_text":
                yield f"{table}.{name}.max_new_tokens", entry.max_new_tokens, True
                yield f"{table}.{name}.max_target_length", entry.max_target_length or 0, True


def _virtual(recipe: Recipe, method: str) -> int:
    """How many virtual tokens a method puts in front of a text."""
    found = 0
    for part in recipe.adapter_config(method=method).injected.values():
        if isinstance(part, Peft) and part.kind in ("prompt_tuning", "p_tuning"):
            found += part.peft.num_virtual_tokens or 0
    return found


def _positions(config: Any) -> tuple[int | None, int | None]:
    """For how many tokens a base has positions, in what it reads and in what it writes; ``None`` where for any number."""
    try:
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(config)
    except Exception:  # one that cannot be made without memory; too long a text is refused where it is met
        return None, None
    read: list[int] = []
    written: list[int] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _TABLES and "vision" not in name:
            unused = getattr(module, "offset", 0) if module.padding_idx is None else module.padding_idx + 1
            (written if "decoder" in name else read).append(module.num_embeddings - unused)
    return min(read or written, default=None), min(written, default=None)
