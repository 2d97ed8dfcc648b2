"""AdapterHub's heads: as heads of ours on a `ModelWithHeads`, or as the own head of the model that they were trained in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graftwork.attach import Handle, Labels, ModelWithHeads, OwnHead
from graftwork.attach.named_heads import make_named_head
from graftwork.checkpoint.adapterhub.files import HEAD, Part, read_part
from graftwork.checkpoint.own_heads import fitting_head, of_own_head
from graftwork.checkpoint.staging import making
from graftwork.checkpoint.tensors import HEAD as HEAD_NAME
from graftwork.checkpoint.tensors import Tensors, fill, gather, require_fit, require_outputs
from graftwork.errors import CheckpointError, ConfigError
from graftwork.heads import (
    Classification,
    HeadConfig,
    MultipleChoice,
    QuestionAnswering,
    Regression,
    TokenClassification,
)
from graftwork.weights.sharded import class_name

logger = logging.getLogger(__name__)
_ONE_A_ROW = ("classification", "multilabel_classification", "image_classification", "multiple_choice")


def read_head(handle: Handle, folder: Path, wish: bool | None) -> OwnHead | None:
    """The head in a folder, filled; ``None`` where there is none, or it is left aside.

    Args:
        handle: The model.
        folder: The folder.
        wish: ``True`` where it is asked for, ``False`` where it is not wanted.

    Raises:
        CheckpointError: If it is asked for and there is none of the same function, or it is damaged.
    """
    if wish is False:
        return None
    if not (folder / HEAD.config).is_file():
        if wish:
            raise CheckpointError(f"{folder} has no head; leave out head=True")
        return None
    part = read_part(folder, HEAD)
    where = f"{part.where} (AdapterHub's head {part.name!r})"
    for options in (part.config, part.values):
        require_outputs(options.get("num_labels"), part.tensors, where)
    try:
        return _flexible(handle, part, where) if part.config else _own(handle, part, where)
    except ConfigError as error:
        if wish:
            raise CheckpointError(f"{where} cannot be loaded: {error}") from error
        logger.info("%s is left aside: %s", where, error)
        return None


def _flexible(handle: Handle, part: Part, where: str) -> OwnHead:
    """A head of their AdapterModel classes."""
    if not isinstance(handle.model, ModelWithHeads):
        raise ConfigError("it is a head beside others; attach to gw.ModelWithHeads(base)")
    config = head_here(part.config, several_stacks=len(handle.sites.numbers) > 1)
    start = f"heads.{part.name}."
    given = {f"head/layers.{key.removeprefix(start)}": t for key, t in part.tensors.items() if key.startswith(start)}
    with making(where, given):
        head = make_named_head(handle, config)
    wanted = gather(head.modules)
    for name, tensor in wanted.items():
        if name.endswith(".bias") and part.config.get("bias") is False:
            given.setdefault(name, torch.zeros(tensor.shape))
    require_fit(wanted, given, where)
    fill(wanted, given)
    return head


def head_here(options: Mapping[str, Any], *, several_stacks: bool) -> HeadConfig:
    """Our configuration of the same head.

    Args:
        options: The ``config`` in their file.
        several_stacks: Whether the model is an encoder-decoder.

    Raises:
        ConfigError: If ours has no such head.
    """
    kind, layers, activation = options.get("head_type"), options.get("layers", 1), options.get("activation_function")
    if options.get("use_pooler"):
        raise ConfigError("it reads the base's pooler (use_pooler=True), which no head here does")
    if kind in _ONE_A_ROW and several_stacks:
        raise ConfigError("it reads the last <eos> token of an encoder-decoder, which no head here does")
    if type(layers) is not int or layers < 1:
        raise ConfigError(f"its number of layers is {layers!r}")
    if activation is None and layers > 1:
        raise ConfigError("its layers have no activation in between")
    common: dict[str, Any] = {"hidden_layers": layers - 1, "dropout": options.get("dropout_prob")}
    common |= {"activation": activation} if layers > 1 else {}
    several = kind == "multilabel_classification" or bool(options.get("multilabel"))
    if kind in ("classification", "multilabel_classification", "image_classification"):
        if options.get("num_labels") == 1 and not several:
            return Regression(**common)
        return Classification(labels=labels_here(options), multi_label=several, **common)
    if kind == "multiple_choice":
        return MultipleChoice(choices=options.get("num_choices"), **common)  # type: ignore[arg-type]
    if kind == "tagging":
        return TokenClassification(labels=labels_here(options), **common)
    if kind == "question_answering" and options.get("num_labels", 2) == 2:
        return QuestionAnswering(**common)
    raise ConfigError(f"a head of the type {kind!r} is none of the same function here")


def labels_here(options: Mapping[str, Any]) -> Any:
    """The labels' names in order, or their number where they have none."""
    numbers, count = options.get("label2id"), options.get("num_labels")
    if not isinstance(numbers, Mapping) or sorted(map(str, numbers.values())) != sorted(map(str, range(len(numbers)))):
        return count
    return tuple(sorted(numbers, key=lambda label: int(numbers[label]))) if count in (None, len(numbers)) else count


def _own(handle: Handle, part: Part, where: str) -> OwnHead:
    """The head of an AutoModelForX: on a model of the same class."""
    trained, here = part.values.get("model_class"), class_name(handle.model)
    if trained != here or not handle.head_paths:
        raise ConfigError(f"it is that of a {trained}, and this is a {here}")
    given = of_own_head(handle, part.tensors)
    with making(where, given):
        head, wanted = fitting_head(handle, given, lambda: Labels.given(labels_here(part.values)))
    given = _without_ties(handle, wanted, given)
    require_fit(wanted, given, where)
    fill(wanted, given)
    return head


def _without_ties(handle: Handle, wanted: Tensors, given: Tensors) -> Tensors:
    """The tensors of a head without those that the model ties, to the base or to one another, where they are the same indeed."""
    modules = {path: handle.model.get_submodule(path) for path in handle.head_paths}
    own = {
        f"{HEAD_NAME}{p}/{n}": t for p, module in modules.items() for n, t in module.state_dict(keep_vars=True).items()
    }
    kept = dict(given)
    for name in [name for name in given if name in own and name not in wanted]:
        twin = next((other for other in wanted if own.get(other) is own[name]), None)
        same = own[name].detach().cpu() if twin is None else given.get(twin)
        if same is not None and torch.equal(kept[name], same.to(kept[name].dtype)):
            del kept[name]
    return kept


def head_there(handle: Handle, name: str) -> tuple[dict[str, Any], Tensors] | None:
    """What their files say of the head of an adapter or a fusion, and its tensors; ``None`` where theirs has no such head."""
    modules, labels, config = handle.head_of(name), handle.labels(name), handle.head_config(name)
    if not modules or labels is None:
        return None
    numbers = {label: n for n, label in enumerate(labels.names)} or None
    if config is None:
        tensors = {f"{path}.{key}": t for path, module in modules.items() for key, t in module.state_dict().items()}
        values: dict[str, Any] = {"name": None, "config": None, "num_labels": len(labels.names), "label2id": numbers}
        return {**values, "model_class": class_name(handle.model)}, tensors
    base: Any = handle.model.base  # a head with a configuration is on a ModelWithHeads
    try:
        options = _options_there(config, images=getattr(base, "main_input_name", "") == "pixel_values")
        kind = type(base).__name__
        if not kind.endswith("Model") or (options["head_type"] in _ONE_A_ROW and len(handle.sites.numbers) > 1):
            raise ConfigError(
                f"such a head on a {kind} is not in AdapterHub's library, or reads another position there"
            )
    except ConfigError as error:
        logger.warning("the head of %r is left aside: %s", name, error)
        return None
    (module,) = modules.values()
    tensors = {f"heads.{name}.{key.removeprefix('layers.')}": t for key, t in module.state_dict().items()}
    values = {"name": name, "config": {**options, "label2id": numbers}}
    return {**values, "model_class": f"{kind.removesuffix('Model')}AdapterModel"}, tensors


def _options_there(config: HeadConfig, *, images: bool) -> dict[str, Any]:
    """Their options of the same head.

    Raises:
        ConfigError: If theirs has no such head.
    """
    common: dict[str, Any] = {"dropout_prob": config.dropout}
    if isinstance(config, (Classification, Regression, MultipleChoice, TokenClassification, QuestionAnswering)):
        common |= {"layers": config.hidden_layers + 1, "activation_function": config.activation}
    if getattr(config, "pooling", None) is not None or getattr(config, "class_weights", None) is not None:
        raise ConfigError("pooling and class_weights are no options there")
    one = {**common, "use_pooler": False}
    if isinstance(config, Classification):
        kind = "multilabel_classification" if config.multi_label else "classification"
        more = (
            {"head_type": "image_classification", "multilabel": config.multi_label} if images else {"head_type": kind}
        )
        return {**one, **more, "num_labels": len(config.names), "bias": True}
    if isinstance(config, Regression) and config.outputs == 1:
        return {
            **one,
            "head_type": "image_classification" if images else "classification",
            "num_labels": 1,
            "bias": True,
        }
    if isinstance(config, MultipleChoice):
        return {**one, "head_type": "multiple_choice", "num_choices": config.choices}
    if isinstance(config, TokenClassification):
        return {**common, "head_type": "tagging", "num_labels": len(config.names)}
    if isinstance(config, QuestionAnswering):
        return {**common, "head_type": "question_answering", "num_labels": 2}
    raise ConfigError(f"a {type(config).__name__} head is none of theirs")
