"""Sites given by hand: a few dotted paths instead of discovery."""

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
    """The sites whose branches are the outputs of modules that the caller names.

    An adapter can read and write the output of such a site. The residual stream is not known there: methods that read it
    need sites found by discovery, or `Site` objects with more taps. At a ``convolution`` that is a `torch.nn.Conv2d` the
    input can be read too, and its sizes are known.

    Args:
        model: The model that the paths belong to.
        paths: For each kind of site the path of the module that returns the branch, with ``*`` for numbers:
            ``{"attention": "layers.*.attn[0]", "feed_forward": "layers.*.mlp"}``. A slot in brackets names the item of
            a tuple (or the key of a mapping) that holds the branch. Several paths make several sites of a kind.
        width: Size of the last dimension; by default it is read from the weights of each module.

    Returns:
        The sites, by stack and layer, within a layer in the order given.

    Raises:
        ConfigError: If a kind is not known.
        SiteError: If no module matches a path, or the weights do not show the width.

    Example:
        >>> from graftwork.sites import sites_from_paths
        >>> sites = sites_from_paths(model, {"feed_forward": "bert.encoder.layer.*.output.dense"})
        >>> [site.key for site in sites]
        ['bert.encoder.layer.0.feed_forward', 'bert.encoder.layer.1.feed_forward']
    """
    modules = dict(model.named_modules())
    sites: list[Site] = []
    for kind, patterns in paths.items():
        if kind not in KINDS:
            raise ConfigError(f"sites_from_paths: kind {kind!r} is not known; it is one of {', '.join(KINDS)}")
        for index, pattern in enumerate([patterns] if isinstance(patterns, str) else patterns):
            sites += _matching(modules, kind, pattern, index, width)
    stacks = list(dict.fromkeys(site.stack for site in sites))
    return tuple(sorted(sites, key=lambda site: (stacks.index(site.stack), site.layer)))


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
            stack = block = name.rpartition(".")[0]
            layer = 0
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
    """The size of what a module returns, read from the last of its layers that has weights."""
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
        f"sites_from_paths: the width of what {name!r} returns is not known, its weights do not show it; pass width="
    )


def _nearest(modules: Mapping[str, torch.nn.Module], path: str) -> str:
    general = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)", "*", name) for name in modules if name))
    near = difflib.get_close_matches(path, general, n=4, cutoff=0.4) or general[:8]
    return f"Similar paths are {', '.join(near)}" if near else "The model has no modules inside it"
