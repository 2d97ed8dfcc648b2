"""Sites as data: what they say, and that they come back from JSON as they were."""

from __future__ import annotations

import dataclasses

import pytest

from graftwork.errors import ConfigError
from graftwork.sites import Site, SiteMap, Tap

SITE = Site(stack="layers", layer=0, kind="attention", block="layers.0", output=Tap("layers.0.attn", "output"), width=8)


def test_sites_written_before_rows_were_known_have_them_first():
    assert "rows" not in SITE.to_dict()
    assert Site.from_dict(SITE.to_dict()) == SITE
    assert SITE.rows == 0


@pytest.mark.parametrize("rows", [1, None])
def test_other_rows_come_back_from_json(rows):
    site = dataclasses.replace(SITE, rows=rows)
    assert site.to_dict()["rows"] == rows
    assert Site.from_dict(site.to_dict()) == site


def test_rows_are_a_dimension():
    with pytest.raises(ConfigError, match="rows is -1; it must be a dimension"):
        dataclasses.replace(SITE, rows=-1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 5000,
        "[1]",
        "{}",
        '{"sites": 3}',
        '{"sites": ["x"]}',
        '{"sites": [{"kind": "attention"}]}',
        '{"sites": [{"stack": "l", "layer": 0, "kind": "attention", "block": "l.0", "output": {}, "width": 8}]}',
        '{"sites": [{"stack": "l", "layer": 0, "kind": "attention", "block": "l.0", "output": {"module": "l.0", "end": "output"}, '
        '"width": "8"}]}',
        '{"sites": [], "norms": 3}',
    ],
)
def test_text_that_is_no_map_of_sites(text):
    with pytest.raises(ConfigError):
        SiteMap.from_json(text)
