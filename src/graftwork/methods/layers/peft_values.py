"""The values that a file or a recipe may give a configuration of peft: numbers, names of modules, choices of peft's own.

Some options of peft import a package that they name, access the Hub, read a file or compile a pattern. A configuration that
is made in Python may have any value. A file or a recipe, whose author may not be known, may give the options listed here;
every other option must have peft's default.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from graftwork.errors import ConfigError

# Names of modules and parameters, or patterns of these.
_MODULES = frozenset(
    "target_modules exclude_modules feedforward_modules modules_to_save layers_pattern target_parameters".split()
)
# Numbers or truth values by the name of a module or a pattern of it.
_BY_MODULE = frozenset("alpha_pattern block_size_pattern lambda_pattern n_frequency_pattern rank_pattern".split())
# Words that choose among the alternatives of peft, which refuses others.
_CHOICES = frozenset(
    "ab_svd_init act_fn bias config_A_B config_C config_D_E decomposition_method encoder_reparameterization_type init_weights "
    "mask_type para peft_type peft_version poly_type task_type trainable_token_indices token_indices variant "
    "wavelet_family weight_tying".split()
)
# Initial values of weights: without meaning in a file that has the weights.
STARTS = frozenset(
    "init_lora_weights prompt_tuning_init prompt_tuning_init_text prompt_tuning_init_task tokenizer_name_or_path".split()
)
_LONGEST, _REPEATS = 300, 3
# Steps that the patterns of one option may take on the path of a module, about 50 letters long; a few more to compile each.
_STEPS, _LETTERS, _COMPILED = 2_000_000, 50, 500
# Groups that capture, look ahead or look back; the others set flags, name groups or hold comments.
_OTHER_GROUP = re.compile(r"\(\?(?!:|=|!|<=|<!)")


def refuse_unlisted(config_class: Any, values: Mapping[str, Any]) -> None:
    """Refuse options of a class of peft that might run, import, download or hang.

    Raises:
        ConfigError: If there is one.
    """
    defaults = {f.name: _default(f) for f in dataclasses.fields(config_class)}
    for name, value in values.items():
        if name in defaults and (value == defaults[name] or value == ()):
            continue
        if name in _MODULES:
            texts = [value] if isinstance(value, str) else value
            good = value is None or (
                isinstance(texts, (list, tuple)) and all(isinstance(text, str) for text in texts) and _are_names(texts)
            )
        elif name in _BY_MODULE:
            good = isinstance(value, Mapping) and _are_names(value) and all(map(_is_number, value.values()))
        elif name in _CHOICES or name in STARTS:
            good = _is_number(value) or (isinstance(value, str) and len(value) <= _LONGEST)
        else:
            # Tables of options are passed on by peft. An option that it does not have it refuses itself.
            good = name not in defaults or (_are_numbers(value) and not name.endswith(("_config", "_kwargs")))
        if not good:
            raise ConfigError(
                f"{config_class.__name__}: {name} is {value!r:.80}, which a file or a recipe may not say: it may have numbers, "
                f"names of modules, and patterns of these that match in few steps (up to {_LONGEST} letters, at most {_REPEATS} "
                "repetitions and none of a group); give the configuration in Python"
            )


def without_starts(data: Any) -> Any:
    """JSON values of a configuration without `STARTS`, in every configuration of peft in it."""
    if isinstance(data, Mapping):
        gone = STARTS if "peft_type" in data else ()
        return {k: without_starts(v) for k, v in data.items() if k not in gone}
    return [without_starts(v) for v in data] if isinstance(data, (list, tuple)) else data


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return getattr(field.default, "value", field.default)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float))


def _are_numbers(value: Any) -> bool:
    """Whether it is a number, or a list or table of numbers."""
    if isinstance(value, Mapping):
        return _are_names(value) and all(map(_are_numbers, value.values()))
    return all(map(_are_numbers, value)) if isinstance(value, (list, tuple)) else _is_number(value)


def _are_names(texts: Iterable[Any]) -> bool:
    """Whether all are names or numbers, or patterns, that take few steps to match together."""
    return sum(map(_steps, texts)) <= _STEPS


def _steps(text: Any) -> float:
    """About the most steps that a pattern takes on the path of a module; infinite for one that may take exponentially many."""
    if not isinstance(text, str):
        return _COMPILED if isinstance(text, int) else math.inf
    repeats = sum(map(text.count, "*+{"))
    is_nested = text[:1] in tuple("*+{") or any(f"){sign}" in text for sign in "*+{")
    if len(text) > _LONGEST or repeats > _REPEATS or is_nested or _OTHER_GROUP.search(text):
        return math.inf
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return math.inf
    optional = text.count("?") - text.count("(?")
    alternatives = math.prod(part.count("|") + 1 for part in text.split("("))
    return _COMPILED + float(_LETTERS) ** repeats * 2.0**optional * alternatives
