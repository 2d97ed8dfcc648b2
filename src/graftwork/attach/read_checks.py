"""Checks that a site has what an adapter reads there."""

from __future__ import annotations

from graftwork.attach.wiring import hidden_taps
from graftwork.errors import SiteError
from graftwork.methods import AdapterModule
from graftwork.methods.layers.contract import HIDDEN
from graftwork.sites import Site, SiteMap

_TAP_OF = {
    "residual": "residual",
    "stream": "residual",
    "normed": "residual",
    "input": "input",
    "layer_input": "layer_input",
}


def require_read(site: Site, reads: str, writes: str, owner: str, dimension: int = -1) -> None:
    """Refuse a read that a site does not have."""
    channels = site.extra.get("channels", -1)
    if channels != dimension:
        raise SiteError(
            f"{owner} mixes {_called(dimension)}, but at {site.key} the channels are {_called(channels)}; leave that kind out"
        )
    if site.holds_stream(writes == "stream") and reads in ("output", "stream", "normed"):
        return
    if site.extra.get("layout") == "differs" and reads != "output":
        raise SiteError(
            f"{owner} reads {reads!r}, but at {site.key} the branch's output is laid out otherwise than the stream; give "
            "reads='output'"
        )
    if site.extra.get("factor") == "computed" and reads in ("stream", "normed"):
        raise SiteError(
            f"{owner} reads {reads!r}, but at {site.key} the model scales the branch by a factor that it computes anew in "
            "every call; give reads='output'"
        )
    if site.summed and reads in ("stream", "normed"):
        return
    role = "residual" if site.summed and reads == "output" else _TAP_OF.get(reads)
    if role is not None and getattr(site, role) is None:
        raise SiteError(
            f"{owner} reads {reads!r}, but the site {site.key} does not say where its {role!r} passes; give the site with "
            f"{role}=gw.Tap(...), or the adapter reads='output'"
        )


def _called(dimension: int) -> str:
    return "the last dimension" if dimension == -1 else f"dimension {dimension}"


def require_hidden(sites: SiteMap, site: Site, module: AdapterModule) -> None:
    """Refuse a module that reads hidden states which the site does not have."""
    known = hidden_taps(sites, site) if module.also_reads else {}
    lacking = next((role for role in module.also_reads if role.startswith(HIDDEN) and role not in known), None)
    if lacking is not None:
        raise SiteError(
            f"{type(module).__name__} reads {lacking!r}, and at {site.key} it is not known where that passes; give the sites of "
            "that layer with layer_input=gw.Tap(...)"
        )
