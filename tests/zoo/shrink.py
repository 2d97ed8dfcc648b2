"""The general shrinker: a tiny working model of any model type of transformers, and inputs it runs on.

``shrink_model("llama")`` needs nothing but the name. Of some 600 types it builds about half; for the others it says
why it cannot (a missing library, a configuration whose parts have to agree in ways no rule here knows, inputs that
cannot be guessed).
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import torch
from torch import nn
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from tests.zoo.models import clone_inputs
from tests.zoo.registry import Unavailable
from tests.zoo.shrink_config import VARIANTS, Sizes, shrink
from tests.zoo.shrink_inputs import candidates

LARGEST = 25_000_000  # parameters: what is larger was not shrunk
MISMATCH = re.compile(r"tokens:? ?(\d+)[^\d]+features:? ?(\d+)")


def model_types() -> tuple[str, ...]:
    """Every model type of the installed transformers that `AutoModel` builds."""
    return tuple(sorted(name for name in CONFIG_MAPPING if name in MODEL_MAPPING_NAMES))


def shrink_model(model_type: str, seed: int = 0) -> tuple[nn.Module, dict[str, Any]]:
    """A tiny model of the type, in eval mode, and inputs for one forward pass that it has run on.

    Raises:
        Unavailable: If none of the attempts works; the message is the first attempt's error.
    """
    if model_type not in CONFIG_MAPPING:
        raise Unavailable("not in the installed transformers")
    reasons = []
    for sizes in VARIANTS:
        try:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(seed)
                return _attempt(model_type, sizes, seed)
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            if isinstance(error, ImportError) and not isinstance(error, Unavailable):
                break
    raise Unavailable(reasons[0])


def _attempt(model_type: str, sizes: Sizes, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    config = shrink(model_type, sizes)
    with torch.device("meta"):
        total = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
    if total > LARGEST:
        raise Unavailable(f"still has {total:,} parameters")
    model = AutoModel.from_config(config).eval()
    if isinstance(model, tuple):
        raise Unavailable("AutoModel gives several models")
    return model, _working_inputs(model, seed)


def _working_inputs(model: nn.Module, seed: int) -> dict[str, Any]:
    """The first candidate the model runs on; a stated mismatch of placeholder tokens and features is set right."""
    reasons: list[str] = []
    tokens = {0}
    queue = [0]
    while queue:
        image_tokens = queue.pop()
        for inputs in candidates(model, torch.Generator().manual_seed(seed), image_tokens):
            try:
                with torch.no_grad():
                    model(**clone_inputs(inputs))
                return inputs
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
                wanted = _wanted_tokens(str(error), inputs)
                if wanted is not None and wanted not in tokens and len(tokens) < 4:
                    tokens.add(wanted)
                    queue.append(wanted)
                    break
    raise Unavailable(f"no input found: {reasons[0] if reasons else 'no argument known'}")


def _wanted_tokens(message: str, inputs: dict[str, Any]) -> int | None:
    """Placeholder tokens a row needs, from "Image features and image tokens do not match, tokens: 0, features: 8"."""
    found = MISMATCH.search(message)
    if not found or "input_ids" not in inputs:
        return None
    wanted = int(found.group(2)) // inputs["input_ids"].shape[0]
    return wanted if 0 < wanted <= 512 else None
