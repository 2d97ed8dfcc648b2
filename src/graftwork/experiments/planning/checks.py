"""Checks before anything is read: that the base fits the tasks, by its configuration alone."""

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

# The first input of a class of transformers, and the name of the part that takes it in a configuration of several parts.
_READS = {"input_ids": "texts", "pixel_values": "images"}
_PARTS = {"texts": "text_config", "images": "vision_config"}
# The names of the number of positions in configurations, and of the table of them in modules.
_NUMBERS = (
    "max_position_embeddings",
    "n_positions",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)
_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe")


def check_before(recipe: Recipe, where: str) -> None:
    """Refuse a base that reads another kind of input than the tasks have, or has positions for too few tokens.

    Args:
        recipe: The recipe.
        where: The base, as transformers finds it. A configuration that cannot be read is refused later, by loading the base.

    Raises:
        RecipeError: Naming the key; also if a library is not installed.
    """
    for tracker in recipe.trackers:
        _check_installed(recipe, tracker)
    try:
        config = transformers.AutoConfig.from_pretrained(where, revision=recipe.base.revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return
    _check_modality(recipe, config)
    _check_room(recipe)
    if any(kind.processor == "tokenizer" for kind in recipe.kinds):
        _check_positions(recipe, config)


def _check_installed(recipe: Recipe, tracker: str) -> None:
    """Refuse a tracker whose package is not installed."""
    try:
        importlib.import_module("torch.utils.tensorboard" if tracker == "tensorboard" else tracker)
    except ImportError as error:
        if tracker in recipe.tracking.active:
            raise RecipeError(
                f"tracking.to: {tracker!r} is not installed ({error}): pip install 'graftwork[trackers]', or leave it out"
            ) from error
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


def _check_room(recipe: Recipe) -> None:
    """Refuse a decoder's task that leaves no room for a prompt."""
    for name, task in recipe.tasks.items():
        limit = task.max_length or recipe.base.max_length
        if task.kind == "generation" and kinds[task.kind].variant(task).generates and task.max_new_tokens >= limit:
            key = f"tasks.{name}.max_length" if task.max_length else "base.max_length"
            raise RecipeError(
                f"tasks.{name}.max_new_tokens is {task.max_new_tokens}, and {key} = {limit} is of prompt and answer together; "
                "give a larger max_length, or fewer new tokens"
            )


def _check_positions(recipe: Recipe, config: Any) -> None:
    lengths = list(_lengths(recipe))
    numbers = [value for name in _NUMBERS if isinstance(value := getattr(config, name, None), int) and value > 0]
    longest = max(length for _, length, _ in lengths) + 8  # some tables have rows that no token uses
    if not numbers or longest < min(numbers):
        return
    inputs, outputs = _positions(config)
    for key, length, written in lengths:
        most = outputs if written else inputs
        if most is not None and length > most:
            raise RecipeError(
                f"{key} is {length}, and base.model = {recipe.base.model!r} has positions for {most} tokens; give {most} or less"
            )


def _lengths(recipe: Recipe) -> Iterator[tuple[str, int, bool]]:
    """The key of each length in the recipe, the length with virtual tokens in front, and whether it is that of an output."""
    virtual = max((_virtual(recipe, method) for method in ("", *recipe.methods)), default=0)
    note = f" (with {virtual} virtual tokens in front)" if virtual else ""
    for table in ("tasks", "languages", "knowledge"):
        for name, entry in getattr(recipe, table).items():
            where = f"{table}.{name}.max_length" if entry.max_length else "base.max_length"
            yield f"{where}{note}", (entry.max_length or recipe.base.max_length) + virtual, False
            if getattr(entry, "kind", "") == "text_to_text":
                yield f"{table}.{name}.max_new_tokens", entry.max_new_tokens, True
                yield f"{table}.{name}.max_target_length", entry.max_target_length or 0, True


def _virtual(recipe: Recipe, method: str) -> int:
    """The number of virtual tokens that a method puts in front of a text."""
    parts = recipe.adapter_config(method=method).injected.values()
    prompts = [part for part in parts if isinstance(part, Peft) and part.kind in ("prompt_tuning", "p_tuning")]
    return sum(part.peft.num_virtual_tokens or 0 for part in prompts)


def _positions(config: Any) -> tuple[int | None, int | None]:
    """The number of positions of a base for its inputs and for its outputs; ``None`` where there is no limit."""
    try:
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(config)
    except Exception:  # it cannot be built without memory; a text that is too long is refused when it is met
        return None, None
    read: list[int] = []
    written: list[int] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _TABLES and "vision" not in name:
            unused = getattr(module, "offset", 0) if module.padding_idx is None else module.padding_idx + 1
            (written if "decoder" in name else read).append(module.num_embeddings - unused)
    return min(read or written, default=None), min(written, default=None)
