"""Heads: each adapter owns a copy of the model's head, used when the adapter is named.

The head of an ``AutoModelForX`` is what its class has beyond the base model (`graftwork.attach.finding_heads`). Output
embeddings are no part of it: tied to the input or not, they belong to the base and stay frozen.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach.choice import Chosen, Program
from graftwork.attach.finding_heads import output_embeddings, task_model
from graftwork.attach.holder import base_modules
from graftwork.attach.names import RESERVED
from graftwork.attach.offload import settled
from graftwork.attach.ports import uninstall
from graftwork.attach.quantised import unquantised
from graftwork.attach.runtime import Frame
from graftwork.compose import BatchSplit, Composition, Learned, MixedBatch, Replicate, Stack
from graftwork.errors import AttachError, CompositionError, ConfigError


@dataclasses.dataclass(frozen=True)
class Labels:
    """What a head's outputs stand for.

    Attributes:
        names: The labels' names, in order.
        problem_type: As in a model's configuration: ``"regression"``, ``"single_label_classification"``,
            ``"multi_label_classification"``, or ``None`` for what the first labels show.
    """

    names: tuple[str, ...]
    problem_type: str | None = None

    @classmethod
    def of(cls, config: Any) -> Labels:
        """Those of a model's configuration."""
        names = getattr(config, "id2label", None) or {}
        return cls(tuple(str(names[k]) for k in sorted(names)), getattr(config, "problem_type", None))

    @classmethod
    def given(cls, value: int | Sequence[str]) -> Labels:
        """From a number of labels or their names.

        Raises:
            ConfigError: If there are none, or two are called alike.
        """
        names = tuple(f"LABEL_{n}" for n in range(value)) if isinstance(value, int) else tuple(value)
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a head with the labels {list(names)}: give one or more, each once")
        return cls(names)


def shared_weights(model: nn.Module) -> dict[int, nn.Parameter]:
    """Weights that a copied head must keep in common with the base: the output embeddings, by identity."""
    _, model = task_model(model)
    output = output_embeddings(model)
    shared = {} if output is None else {id(p): p for p in output.parameters(recurse=False) if p is output.weight}
    base = getattr(model, "base_model", None)
    if isinstance(base, nn.Module) and base is not model:
        shared.update({id(p): p for _, m in base_modules(base) for p in m._parameters.values() if p is not None})
    return shared


def copied(head: nn.Module, shared: Mapping[int, nn.Parameter]) -> nn.Module:
    """A copy of a head module without our hooks; weights shared with the base are referred to, not registered.

    Raises:
        AttachError: If it shares weights with a base that is offloaded.
    """
    if any(id(p) in shared and p.is_meta for p in head.parameters()) and settled(head) is not head:
        raise AttachError(
            f"the head {type(head).__name__} has weights in common with the base (its word embeddings), which accelerate "
            "offloads; keep the embeddings and the head on one device in the device_map"
        )
    head = unquantised(settled(head))
    copy_ = copy.deepcopy(head, dict(shared))
    for module in list(copy_.modules()):
        uninstall(module)
        module._modules.pop(RESERVED, None)
        for name, p in list(module._parameters.items()):
            if p is not None and id(p) in shared:
                del module._parameters[name]
                module.__dict__[name] = p
            elif p is not None and p.dtype in (torch.float16, torch.bfloat16):
                p.data = p.data.float()  # what is trained is float32, see `stand_in`
    return copy_


def resized(model: Any, heads: Mapping[str, nn.Module], labels: Labels) -> None:
    """Give copied heads another number of labels; weights whose shape changes start anew.

    Raises:
        ConfigError: If the model's head does not depend on a number of labels.
    """
    changed = 0
    start, model = task_model(model)
    if hasattr(getattr(model, "config", None), "num_labels"):
        config = copy.deepcopy(model.config)
        config.num_labels = len(labels.names)
        with torch.device("meta"):
            wanted = type(model)(config)
        for path, head in heads.items():
            plain = path.removeprefix(f"{start}.").partition(".modules_to_save.")[0]  # as it is called without peft
            changed += _reshape(head, wanted.get_submodule(plain), getattr(config, "initializer_range", 0.02))
    if not changed and len(labels.names) != len(Labels.of(getattr(model, "config", None)).names):
        raise ConfigError(f"the head of {type(model).__name__} does not depend on a number of labels; give a module")


def _reshape(head: nn.Module, wanted: nn.Module, std: float) -> int:
    """Give a head's weights the shapes that are wanted, and say how many changed."""
    shapes = dict(wanted.named_parameters())
    changed = [(name, p) for name, p in head.named_parameters() if shapes[name].shape != p.shape]
    for name, p in changed:
        owner = head.get_submodule(name.rpartition(".")[0])
        new = torch.zeros(shapes[name].shape, dtype=p.dtype, device=p.device)
        if new.dim() > 1:
            nn.init.normal_(new, std=std)
        setattr(owner, name.rpartition(".")[2], nn.Parameter(new))
        if isinstance(owner, nn.Linear):
            owner.out_features, owner.in_features = owner.weight.shape
    return len(changed)


def follow_vocabulary(model: nn.Module, heads: Mapping[str, nn.Module]) -> None:
    """Give copies of a head the length of a vocabulary that was resized since: new words begin with the model's own values.

    Args:
        model: The model, or a wrapper with one inside.
        heads: The copies, by the path of the model's own.
    """
    output = output_embeddings(task_model(model)[1])
    weight = getattr(output, "weight", None)
    if not isinstance(weight, Tensor):
        return
    for path, head in heads.items():
        own = model.get_submodule(path)
        if output not in set(own.modules()):
            continue
        theirs = dict(own.named_parameters())
        for name, p in head.named_parameters():
            now = theirs.get(name)
            if now is not None and now.shape[1:] == p.shape[1:] and len(now) == len(weight) != len(p):
                longer = now.detach().to(p, copy=True)
                longer[: len(p)] = p.detach()[: len(now)]
                p.data, p.grad = longer, None


def head_name(composition: Composition, head_for: Callable[[str], str | None]) -> str | tuple[Any, ...] | None:
    """Whose head a composition uses: a name, ``None`` for the model's own, or a block with one of these a child.

    A fusion has a head of its own; in a Stack the last that has one is used; by rows each row uses its own.

    Raises:
        CompositionError: If several heads are named and nothing says which.
    """
    if composition is None:
        return None
    if isinstance(composition, str):
        return head_for(composition)
    if isinstance(composition, Learned) and head_for(composition.name) is not None:
        return head_for(composition.name)
    inside = [head_name(child, head_for) for child in composition.children]
    if isinstance(composition, Stack):
        last = next((h for h in reversed(inside) if h is not None), None)
        return (composition, tuple(inside)) if isinstance(last, tuple) else last
    if all(h == inside[0] for h in inside):
        return inside[0]
    if isinstance(composition, (BatchSplit, MixedBatch, Replicate)):
        return composition, tuple(inside)
    raise CompositionError(
        f"{composition!r} names several heads ({', '.join(repr(h) for h in inside)}) for one output; say which one: "
        f"grafts.using(composition, head={next(h for h in inside if isinstance(h, str))!r})"
    )


def labelled(chosen: str | tuple[Any, ...] | None, labels: Mapping[str | None, Labels]) -> str | None:
    """The head whose labels a loss is computed for: the one in use, by rows any one where all have equally many."""
    if not isinstance(chosen, tuple):
        return chosen
    inside = [labelled(child, labels) for child in chosen[1]]
    return inside[0] if len({len(labels[name].names) for name in inside}) == 1 else None


def run_head(
    base: nn.Module, program: Program, frame: Frame, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor:
    """The output of the head that stands in for the model's own.

    Raises:
        CompositionError: If rows of one batch use heads with outputs of different sizes.
    """
    if isinstance(program, nn.Module):
        return stand_in(program, base, args, kwargs)
    values = args[0] if args else next(iter(kwargs.values()))
    chosen = Chosen.bound(
        base, lambda m, rows: stand_in(m, base, (rows,), {}), program, frame.call.rows, frame.call.beams
    )
    chosen.on_rows = frame.on_rows
    modules = [
        base if m is None else m for m in (chosen.choice if isinstance(chosen.choice, tuple) else (chosen.choice,))
    ]
    tied = {
        id(p) for m in modules for part in m.modules() for p in part.__dict__.values() if isinstance(p, nn.Parameter)
    }
    sizes = {_own_shapes(m, tied) for m in modules}
    if len(sizes) > 1:
        raise CompositionError(
            f"{frame.plan.composition!r}: the rows use heads with outputs of different sizes, which do not fit one tensor; "
            "use adapters whose heads have equally many labels, or run them one after another"
        )
    return chosen(values)


def _own_shapes(head: nn.Module, tied: Collection[int]) -> tuple[torch.Size, ...]:
    """The shapes of a head's weights, those apart that copies have in common with the base, and adapters inside."""
    mine = [(n, p) for n, p in head.named_parameters() if id(p) not in tied and RESERVED not in n.split(".")]
    return tuple(p.shape for _, p in mine)


def stand_in(head: nn.Module, base: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """A head's output, its float32 weights computed in the dtype of the model's own head."""
    if head is base:
        return head.forward(*args, **kwargs)  # type: ignore[no-any-return]
    weights = dict(head.named_parameters())
    dtype = next((p.dtype for p in base.parameters() if p.is_floating_point()), None)
    if dtype is None or all(p.dtype == dtype or not p.is_floating_point() for p in weights.values()):
        return head(*args, **kwargs)  # type: ignore[no-any-return]
    narrow = {name: p.to(dtype) if p.is_floating_point() else p for name, p in weights.items()}
    return torch.func.functional_call(head, narrow, args, dict(kwargs))  # type: ignore[no-any-return]
