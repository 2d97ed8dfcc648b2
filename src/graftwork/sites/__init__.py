"""Where an adapter can read and write: sites as data, and their discovery from one forward pass."""

from graftwork.sites.by_hand import sites_from_paths
from graftwork.sites.discovery.discover import discover, norm_paths
from graftwork.sites.discovery.projections import is_conv1d, projections_by_hand, weight_by_output
from graftwork.sites.site import KINDS, Site, SiteMap, Tap

__all__ = [
    "KINDS",
    "Site",
    "SiteMap",
    "Tap",
    "discover",
    "is_conv1d",
    "norm_paths",
    "projections_by_hand",
    "sites_from_paths",
    "weight_by_output",
]
