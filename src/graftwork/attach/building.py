"""Building the modules of adapters and fusions, and copying heads."""

from __future__ import annotations

import collections
import dataclasses
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from graftwork.methods import AdapterConfig, AdapterModule, NormModule, Place
from graftwork.methods.layers.projection_config import ProjectionConfig
from graftwork.options import nearest
from graftwork.sites import Site, SiteMap
from graftwork.weights.holder import device_at, made_on


class Built(NamedTuple):
    """The modules and the norms of a new adapter, by their place in the map of sites."""

    modules: dict[int, AdapterModule]
    norms: dict[int, nn.Module]


def build(model: nn.Module, sites: SiteMap, config: AdapterConfig) -> Built:
    """The modules and the norms of a new adapter, on the devices of their blocks.

    What they share is made first, on the device of the first block, and they refer to it: see `shared_by`. Sites where the
    method cannot be used (the features are in another dimension, or what it reads is not known) are left out with a warning,
    or refused if ``sites=`` names their kind. Which ones depends on the configuration and the model alone.
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
                module = config.build(place, shared)
            for number, part in module.parts.items() if module is not None else ():
                require_read(site, part.reads, part.writes, type(config.made_of[number]).__name__, part.dimension)
                require_hidden(sites, site, part)
        except (SiteError, ConfigError) as error:
            if not _may_skip(config, site, error):
                raise
            skipped[index] = error
            continue
        if module is not None:
            built[index] = module.to(device).train(model.training)
    norms = build_norms(model, sites, config, shared)
    used = {number for module in built.values() for number in module.parts}
    for number, part_config in enumerate(config.made_of):
        if not part_config.injected and not (norms if part_config.norms_alone else number in used):
            raise next(iter(skipped.values()), None) or _nowhere(sites, part_config)
    if skipped:
        kinds = collections.Counter(sites.places[index].kind for index in skipped)
        warnings.warn(
            f"{type(config).__name__} leaves out {len(skipped)} sites where it cannot be used "
            f"({', '.join(f'{n} of kind {kind}' for kind, n in kinds.items())}): {next(iter(skipped.values()))}",
            stacklevel=2,
        )
    return Built(built, norms)


def _may_skip(config: AdapterConfig, site: Site, error: GraftworkError) -> bool:
    """Whether a site can be left out: ``sites=`` does not name its kind, and the site does not fit, not an option.

    An option that fits no width (a factor that does not divide it) is an error, except where the features are in another
    dimension than the last, which options are not made for.
    """
    channels = "channels" in site.extra and site.kind != "convolution"
    if not (isinstance(error, SiteError) or channels):
        return False
    for one in config.made_of:
        default = next((f.default for f in dataclasses.fields(one) if f.name == "sites"), None)
        kinds: Any = getattr(one, "sites", default)
        if kinds != default and site.kind in tuple(kinds):
            return False
    return True


def _nowhere(sites: SiteMap, config: AdapterConfig) -> SiteError:
    """The error for a method without any site in a model."""
    model, owner = sites.model_class or "this model", type(config).__name__
    if config.norms_alone:
        return SiteError(
            f"{owner} stands in for norms, but none is known in {model}; name them: SiteMap((), norms=[...])"
        )
    if not len(sites):
        return SiteError(f"{owner} needs sites, but {model} was attached without any; detach() it, and attach again")
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
    """What the modules and norms of one adapter or fusion share, ``None`` if that is nothing."""
    with_shared = (AdapterModule, LearnedModule, NormModule)
    found = (m.shared for group in modules for m in group.values() if isinstance(m, with_shared))
    return next((shared for shared in found if shared is not None), None)


def places_of(model: nn.Module, sites: SiteMap, chosen: Iterable[int]) -> list[Place]:
    """What a configuration is given for each of some sites, by their names in the base model, without a head around it."""
    stacks = {stack.removeprefix(sites.prefix): layers for stack, layers in sites.stacks.items()}
    kinds: dict[tuple[str, int], dict[str, None]] = collections.defaultdict(dict)
    for site in sites:
        kinds[site.stack, site.layer][site.kind] = None
    causal: dict[str, bool] = {}
    places = []
    for site in (sites.places[index] for index in chosen):
        inside = site.stack or site.block
        if inside not in causal:
            causal[inside] = causal_at(model, site)
        block_kinds = tuple(kinds[site.stack, site.layer])
        module = model.get_submodule(site.output.module) if site.kind == "projection" else None
        site = without_prefix(site, sites.prefix)
        places.append(Place(site, stacks.get(site.stack, 1), causal[inside], block_kinds, module))
    return places


def without_prefix(site: Site, prefix: str) -> Site:
    """The site by its names in the base model."""
    output = dataclasses.replace(site.output, module=site.output.module.removeprefix(prefix))
    return dataclasses.replace(
        site, stack=site.stack.removeprefix(prefix), block=site.block.removeprefix(prefix), output=output
    )


def build_fusion(
    model: nn.Module, sites: SiteMap, present: Collection[int], block: Learned, config: LearnedConfig
) -> dict[int, LearnedModule]:
    """The modules of a new trainable block at the sites of the given places; what they share is made first."""
    here = {index: sites.places[index] for index in sorted(present)}
    places = dict(zip(here, places_of(model, sites, here), strict=True))
    devices = {index: device_at(model, site.block) for index, site in here.items()}
    first = next(iter(devices.values()), torch.device("cpu"))
    with made_on(first):
        shared = config.shared(block, list(places.values()))
    if shared is not None:
        shared.to(first).train(model.training)
    built: dict[int, LearnedModule] = {}
    for index, site in here.items():
        with made_on(devices[index]):
            module = config.build(block, places[index], shared)
        if module.reads is not None:
            require_read(site, module.reads, "branch", type(config).__name__)
        built[index] = module.to(devices[index]).train(model.training)
    return built


def copy_head(model: nn.Module, source: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of head modules that refer to the weights of the base; sites inside are sites in the copies too."""
    shared = shared_weights(model)
    copies = {path: copied(module, shared) for path, module in source.items()}
    for path, module in copies.items():
        wire_copy(source[path], module)
    return copies


def make_head(model: nn.Module, paths: Sequence[str], head: Any, own: Labels) -> tuple[dict[str, nn.Module], Labels]:
    """The modules and labels of a head that is given as a number of labels, their names, or modules."""
    kind = type(model).__name__
    if not paths:
        raise ConfigError(f"{kind} has no head besides its base model; use an AutoModelForX")
    if isinstance(head, nn.Module):
        if len(paths) > 1:
            raise ConfigError(f"the head of {kind} is {list(paths)}: give a mapping with a module for each")
        return {paths[0]: head}, own
    if isinstance(head, Mapping):
        if set(head) != set(paths):
            raise ConfigError(f"the head of {kind} is {list(paths)}; modules for {list(head)} were given")
        return dict(head), own
    labels = Labels.given(head)
    modules = copy_head(model, {p: model.get_submodule(p) for p in paths})
    resized(model, modules, labels)
    return modules, labels
