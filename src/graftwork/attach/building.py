"""Making the modules of adapters, fusions and heads, and putting them into the model."""

from __future__ import annotations

import collections
import dataclasses
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from graftwork.attach.model_head import copied, resized, shared_weights
from graftwork.attach.norms import build_norms
from graftwork.attach.read_checks import require_hidden, require_read
from graftwork.attach.wiring import wire_copy
from graftwork.compose import Learned, LearnedConfig, LearnedModule
from graftwork.errors import ConfigError, GraftworkError, SiteError
from graftwork.forward.causality import causal_at
from graftwork.forward.heads_in_use import Labels
from graftwork.forward.stand_ins import StandIns
from graftwork.methods import AdapterConfig, AdapterModule, NormModule, Place
from graftwork.methods.layers.projection_config import ProjectionConfig
from graftwork.options import nearest
from graftwork.sites import Site, SiteMap
from graftwork.weights.holder import Holder, SiteAdapters, device_at, holder_at, made_on


class Built(NamedTuple):
    """What a new adapter is made of: its modules and its norms, each by its place in the map of sites."""

    modules: dict[int, AdapterModule]
    norms: dict[int, nn.Module]


def build(model: nn.Module, sites: SiteMap, config: AdapterConfig) -> Built:
    """The modules and the norms of a new adapter, on the device of what they stand in.

    What they share is made first, on the device of the first block, and they refer to it: see `shared_by`. A site that the
    method cannot serve (its features are another dimension, or it does not give what is read) is left out with a warning,
    the same sites whenever the same configuration meets the same model; one of a kind that ``sites=`` names is refused.

    Raises:
        SiteError: If the method stands nowhere in this model, or cannot serve a site of a kind that was asked for by name.
        ConfigError: If an option does not fit.
    """
    config.check({stack.removeprefix(sites.prefix): numbers for stack, numbers in sites.numbers.items()})
    chosen = range(len(sites.places) if config.at_projections else len(sites))
    places = places_of(model, sites, chosen)
    devices = [device_at(model, sites.places[index].block) for index in chosen]
    first = devices[0] if devices else device_at(model, "")
    with made_on(first):
        shared = config.shared(places)
    if shared is not None:
        shared.to(first).train(model.training)
    built: dict[int, AdapterModule] = {}
    skipped: dict[int, GraftworkError] = {}
    for index, place, device in zip(chosen, places, devices, strict=True):
        site = sites.places[index]
        try:
            with made_on(device):
                module = _served(sites, site, config, config.build(place, shared))
        except (SiteError, ConfigError) as error:
            if not _may_skip(config, site, error):
                raise
            skipped[index] = error
            continue
        if module is not None:
            built[index] = module.to(device).train(model.training)
    norms = build_norms(model, sites, config, shared)
    there = {number for module in built.values() for number in module.parts}
    for number, one in enumerate(config.made_of):
        if not one.injected and not (norms if one.norms_alone else number in there):
            raise next(iter(skipped.values()), None) or _nowhere(sites, one)
    if skipped:
        warnings.warn(_skipped(sites, config, skipped), stacklevel=2)
    return Built(built, norms)


def _served(sites: SiteMap, site: Site, config: AdapterConfig, module: AdapterModule | None) -> AdapterModule | None:
    """The module of a site, refused where the site does not give what it reads."""
    for number, part in module.parts.items() if module is not None else ():
        require_read(site, part.reads, part.writes, type(config.made_of[number]).__name__, part.dimension)
        require_hidden(sites, site, part)
    return module


def _may_skip(config: AdapterConfig, site: Site, error: GraftworkError) -> bool:
    """Whether a site can be left out: nobody named its kind, and it is the site that does not fit, not an option.

    An option that fits no width (a factor that does not divide it) is an error, but for widths of another dimension than
    the last, which no option was meant for.
    """
    named = {kind for one in config.made_of for kind in _asked_for(one)}
    channels = "channels" in site.extra and site.kind != "convolution"
    return site.kind not in named and (isinstance(error, SiteError) or channels)


def _asked_for(config: AdapterConfig) -> tuple[str, ...]:
    """The kinds of sites that a configuration names, where they are others than its method's own."""
    default = next((f.default for f in dataclasses.fields(config) if f.name == "sites"), None)
    sites: Any = getattr(config, "sites", default)
    return () if sites == default else tuple(sites)


def _skipped(sites: SiteMap, config: AdapterConfig, skipped: Mapping[int, GraftworkError]) -> str:
    kinds = collections.Counter(sites.places[index].kind for index in skipped)
    counts = ", ".join(f"{n} of kind {kind}" for kind, n in kinds.items())
    return (
        f"{type(config).__name__} leaves out {len(skipped)} sites that it cannot serve ({counts}): "
        f"{next(iter(skipped.values()))}"
    )


def _nowhere(sites: SiteMap, config: AdapterConfig) -> SiteError:
    model, owner = sites.model_class or "this model", type(config).__name__
    if config.norms_alone:
        return SiteError(
            f"{owner} stands in for norms, but none is known in {model}; name them: SiteMap((), norms=[...])"
        )
    if not len(sites):
        return SiteError(
            f"{owner} stands at sites, but {model} was attached without any; detach() it, and attach again"
        )
    if isinstance(config, ProjectionConfig):
        names = sites.projection_names
        unknown = [one for one in config.targets if one.rpartition(".")[2] not in (*names, "*", "all")]
        near = f"; {nearest(unknown[0].rpartition('.')[2], names)}" if unknown else ""
        return SiteError(
            f"{owner} goes to the linear modules {list(config.targets)}, and {model} has none of these{near}"
        )
    return SiteError(
        f"{owner} stands at {getattr(config, 'sites', '?')}, but {model} has sites of the kinds {', '.join(sites.kinds)} only; "
        "give sites= some of these, and leave_out not every layer"
    )


def shared_by(*modules: Mapping[Any, nn.Module]) -> nn.Module | None:
    """What the modules and norms of one adapter or fusion have in common, ``None`` where that is nothing."""
    of = (AdapterModule, LearnedModule, NormModule)
    known = (m.shared for some in modules for m in some.values() if isinstance(m, of))
    return next((shared for shared in known if shared is not None), None)


def places_of(model: nn.Module, sites: SiteMap, chosen: Iterable[int]) -> list[Place]:
    """What a configuration knows of some sites: its stack as in the base model, whatever head is around it."""
    stacks = {stack.removeprefix(sites.prefix): layers for stack, layers in sites.stacks.items()}
    causal: dict[str, bool] = {}
    kinds: dict[tuple[str, int], list[str]] = {}
    for site in sites:
        kinds.setdefault((site.stack, site.layer), []).append(site.kind)
    places = []
    for site in (sites.places[index] for index in chosen):
        inside = site.stack or site.block
        if inside not in causal:
            causal[inside] = causal_at(model, site)
        there = tuple(dict.fromkeys(kinds.get((site.stack, site.layer), ())))
        site = without_prefix(site, sites.prefix)
        layers = stacks.get(site.stack, 1)
        places.append(Place(site=site, layers=layers, causal=causal[inside], block_kinds=there))
    return places


def without_prefix(site: Site, prefix: str) -> Site:
    """The site as it is called in the base model."""
    output = dataclasses.replace(site.output, module=site.output.module.removeprefix(prefix))
    return dataclasses.replace(
        site, stack=site.stack.removeprefix(prefix), block=site.block.removeprefix(prefix), output=output
    )


def build_fusion(
    model: nn.Module, sites: SiteMap, present: Collection[int], block: Learned, config: LearnedConfig
) -> dict[int, LearnedModule]:
    """The weights of a new learned block at the sites of the given places, what these share made first.

    Raises:
        SiteError: If it reads what a site does not give.
        ConfigError: If an option does not fit.
    """
    here = {index: sites.places[index] for index in sorted(present)}
    places = dict(zip(here, places_of(model, sites, here), strict=True))
    devices = {index: device_at(model, site.block) for index, site in here.items()}
    root = next(iter(devices.values()), torch.device("cpu"))
    with made_on(root):
        shared = config.shared(block, list(places.values()))
    if shared is not None:
        shared.to(root).train(model.training)
    built: dict[int, LearnedModule] = {}
    for index, site in here.items():
        with made_on(devices[index]):
            module = config.build(block, places[index], shared)
        if module.reads is not None:
            require_read(site, module.reads, "branch", type(config).__name__)
        built[index] = module.to(devices[index]).train(model.training)
    return built


def looked_up(model: nn.Module, sites: SiteMap, written: Collection[int]) -> str | None:
    """The path of the model's own token embeddings, where these are a site that is written; else ``None``."""
    paths = [s.output.module for n, s in enumerate(sites) if s.kind == "embedding" and n in written]
    if not paths:
        return None
    try:
        tokens = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    return next((path for path in paths if model.get_submodule(path) is tokens), None)


def site_adapters(model: nn.Module, site: Site, index: int) -> SiteAdapters:
    """The module that keeps a site's adapters, made when first asked for."""
    holder = holder_at(model, site.block)
    key = str(index)
    if key not in holder.sites:
        holder.sites[key] = SiteAdapters().train(model.training)
    return holder.sites[key]  # type: ignore[return-value]


def drop_site(model: nn.Module, site: Site, index: int) -> None:
    """Take out the module that kept a site's adapters."""
    del holder_at(model, site.block).sites[str(index)]


def copy_head(model: nn.Module, source: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of head modules, weights of the base referred to and not copied; sites inside are sites in the copies too."""
    shared = shared_weights(model)
    copies = {path: copied(module, shared) for path, module in source.items()}
    for path, module in copies.items():
        wire_copy(source[path], module)
    return copies


def make_head(model: nn.Module, paths: Sequence[str], head: Any, own: Labels) -> tuple[dict[str, nn.Module], Labels]:
    """A head from a number of labels, their names, or modules.

    Raises:
        ConfigError: If the model has no head, or what is given is none.
    """
    if not paths:
        raise ConfigError(f"{type(model).__name__} has no head beside its base model; use an AutoModelForX")
    if isinstance(head, nn.Module) and len(paths) == 1:
        return {paths[0]: head}, own
    if isinstance(head, Mapping):
        if set(head) != set(paths):
            raise ConfigError(
                f"the head of {type(model).__name__} is {list(paths)}; modules for {list(head)} were given"
            )
        return dict(head), own
    if isinstance(head, nn.Module):
        raise ConfigError(f"the head of {type(model).__name__} is {list(paths)}: give a mapping with a module for each")
    labels = Labels.given(head)
    modules = copy_head(model, {p: model.get_submodule(p) for p in paths})
    resized(model, modules, labels)
    return modules, labels


def put_head(root: Holder, name: str, modules: Mapping[str, nn.Module], training: bool) -> None:
    """Keep a head's modules."""
    root.heads.put(name, nn.ModuleDict({path.replace(".", "/"): m.train(training) for path, m in modules.items()}))


def head_stand_ins(chosen: Any, path: str, head_of: Callable[[str], Mapping[str, nn.Module]]) -> StandIns:
    """Which module stands in for the model's head module at ``path``."""
    if chosen is None:
        return None
    if isinstance(chosen, str):
        return head_of(chosen).get(path)
    block, children = chosen
    return block, tuple(head_stand_ins(child, path, head_of) for child in children)
