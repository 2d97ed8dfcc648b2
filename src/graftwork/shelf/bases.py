"""The model that a folder's adapter was trained on: which class of transformers it needs, and where it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from graftwork.attach import ModelWithHeads
from graftwork.errors import CheckpointError
from graftwork.shelf import runs
from graftwork.shelf.records import OWN_HEAD, FolderInfo

# The AutoModel class for the end of a class's name, and for a type of task of peft. No class is imported by a name in a file.
_ENDS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMultipleChoice": "AutoModelForMultipleChoice",
    "ForImageClassification": "AutoModelForImageClassification",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
}
_TASKS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}


def auto_class(found: FolderInfo) -> str:
    """The AutoModel class of the model that a folder's adapter was trained in, as far as the folder says it."""
    if found.format == "peft":
        return _TASKS.get(str(found.options.get("task_type")), "AutoModel")
    kinds = [*(head.kind for head in found.heads), found.base.model_class or ""]
    return next((auto for kind in kinds for end, auto in _ENDS.items() if kind.endswith(end)), "AutoModel")


def load_model(found: FolderInfo, model: str | None, *, auto: str | None = None, heads: bool = True) -> nn.Module:
    """The model for a folder's adapter, with its weights, in evaluation mode.

    Args:
        found: The folder.
        model: A folder or a name on the Hub; by default the base that the folder names, which is not downloaded.
        auto: The AutoModel class; by default the one that the folder's head belongs to.
        heads: Whether the adapter's head is wanted; without it the model has none.

    Raises:
        CheckpointError: If no base is named, or it cannot be loaded.
    """
    import transformers  # which takes long, and a list of folders needs none of it

    chosen = auto or (auto_class(found) if heads else "AutoModel")
    make: Any = getattr(transformers, chosen, None) if re.fullmatch(r"AutoModel(For\w+)?", chosen) else None
    if make is None:
        raise CheckpointError(f"--auto is {chosen!r}; it must be one of transformers' AutoModel classes")
    name = model or _named(found)
    if name is None:
        raise CheckpointError(
            f"{found.folder} does not say which base it was trained on; give --model, a folder or a name on the Hub"
        )
    try:
        loaded = make.from_pretrained(name, trust_remote_code=False, local_files_only=model is None)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).strip().splitlines()[0]
        said = "" if model else " (the folder names it; it is not downloaded: give --model)"
        raise CheckpointError(f"the base {name!r} cannot be loaded as {chosen}: {why}{said}") from error
    # a head of ours or of AdapterHub's library has the name of a kind, any other that of a class
    named = heads and auto is None and any(head.kind.islower() and head.kind != OWN_HEAD for head in found.heads)
    whole: nn.Module = ModelWithHeads(loaded) if named and found.format != "peft" else loaded
    return whole.eval()


def _named(found: FolderInfo) -> str | None:
    """The base that a folder, or the recipe of its run, names."""
    name, run = found.base.name, found.history.run
    if name is not None and run is not None:
        return next((str(place / name) for place in runs.roots_of(run) if (place / name).is_dir()), name)
    return name if name is None or not Path(name).is_absolute() or Path(name).is_dir() else None
