"""Sites given by hand: a few dotted paths in place of discovery."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

import torch

from graftwork.errors import ConfigError, SiteError
from graftwork.sites.discovery.convolutions import facts_of
from graftwork.sites.site import KINDS, Site, Tap

_SLOT = re.compile(r"^(?P<path>.*?)(?:\[(?P<slot>\w+)\])?$")


def sites_from_paths(
    model: torch.nn.Module, paths: Mapping[str, str | Sequence[str]], *, width: int | None = None
) -> tuple[Site, ...]:
    """Sites whose branches are the outputs of modules that the caller names.

    Such sites can be written to and their output read; the stream before them is not known, so methods that read it
    need sites that discovery found, or `Site` objects with more taps. Of a ``convolution`` that is a `torch.nn.Conv2d`
    the input can be read too, and its sizes are known.

    Args:
        model: The model that the paths are of.
        paths: For each kind of site the path of the module that returns the branch, ``*`` for numbers:
            ``{"attention": "layers.*.attn[0]", "feed_forward": "layers.*.mlp"}``. A slot in brackets names the item of
            a tuple (or the key of a mapping) that holds the branch. Several paths make several sites of a kind.
        width: Size of the last dimension; by default each module's own weights tell.

    Returns:
        The sites, by stack and layer, within a layer in the order given.

    Raises:
        ConfigError: If a kind is not known.
        SiteError: If no module matches a path, or a width cannot be told.
    """
    modules = dict(model.named_modules())
    found: list[tuple[tuple[str, int], Site]] = []
    for kind, given in paths.items():
        if kind not in KINDS:
            raise ConfigError(f"sites_from_paths: kind {kind!r} is not known; it is one of {', '.join(KINDS)}")
        for index, pattern in enumerate([given] if isinstance(given, str) else given):
            for site in _matching(modules, kind, pattern, index, width):
                found.append(((site.stack, site.layer), site))
    stacks = list(dict.fromkeys(stack for (stack, _), _ in found))
    found.sort(key=lambda entry: (stacks.index(entry[0][0]), entry[0][1]))
    return tuple(site for _, site in found)


def _matching(
    modules: Mapping[str, torch.nn.Module], kind: str, pattern: str, index: int, width: int | None
) -> Iterator[Site]:
    parsed = _SLOT.match(pattern)
    path, slot = (parsed["path"], parsed["slot"]) if parsed else (pattern, None)
    expression = re.compile(r"(\d+)".join(re.escape(part) for part in path.split("*")))
    matches = [(name, match) for name in modules if (match := expression.fullmatch(name))]
    if not matches:
        raise SiteError(f"sites_from_paths: no module is called {path!r} ({kind}). {_nearest(modules, path)}")
    for name, match in matches:
        if match.lastindex:  # the last number counts the layers
            start, end = match.span(match.lastindex)
            stack, layer, block = name[:start].rstrip("."), int(name[start:end]), name[:end]
        else:
            block = name.rpartition(".")[0]
            stack, layer = block, 0
        module = modules[name]
        convolution = module if kind == "convolution" and isinstance(module, torch.nn.Conv2d) else None
        yield Site(
            stack=stack,
            layer=layer,
            kind=kind,  # type: ignore[arg-type]
            block=block,
            output=Tap(name, "output", int(slot) if slot and slot.isdigit() else slot),
            width=width if width is not None else _width(name, module),
            input=Tap(name, "input", 0) if convolution is not None else None,
            index=index,
            extra=facts_of(convolution) if convolution is not None else {},
        )


def _width(name: str, module: torch.nn.Module) -> int:
    """The size of what a module returns, from the last of its layers with weights."""
    for layer in reversed(list(module.modules())):
        for attribute in ("out_features", "out_channels", "nf", "embedding_dim"):
            size = getattr(layer, attribute, None)
            if isinstance(size, int):
                return size
        shape = getattr(layer, "normalized_shape", None)
        if shape:
            return int(shape[-1])
        weight = getattr(layer, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() == 1:
            return int(weight.shape[0])
    raise SiteError(
        f"sites_from_paths: the width of what {name!r} returns cannot be told from its weights; pass width="
    )


def _nearest(modules: Mapping[str, torch.nn.Module], path: str) -> str:
    general = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)", "*", name) for name in modules if name))
    near = difflib.get_close_matches(path, general, n=4, cutoff=0.4) or general[:8]
    return f"Near it are {', '.join(near)}" if near else "The model has no modules inside it"
