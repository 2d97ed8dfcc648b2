"""Rows and where they came from."""

from __future__ import annotations

import pytest

from graftwork.tasks import Place, Rows

ROWS = Rows([{"a": n} for n in range(4)], [Place("file", n + 1) for n in range(4)])


def test_a_part_keeps_its_places() -> None:
    assert str(ROWS[1:3].place(0)) == "file:2"
    assert list(ROWS.take([3, 0])) == [{"a": 3}, {"a": 0}]
    assert [str(place) for _, place in ROWS.take([3, 0]).placed()] == ["file:4", "file:1"]
    assert str(Place("image.png")) == "image.png"


def test_it_is_a_sequence() -> None:
    assert (len(ROWS), ROWS[-1], ROWS.columns) == (4, {"a": 3}, ("a",))
    assert repr(ROWS) == "<4 rows from file:1: a>"
    assert str(Rows([{"a": 1}]).place(0)) == "rows in memory:1"
    with pytest.raises(TypeError):
        ROWS[0] = {}  # type: ignore[index]
    with pytest.raises(ValueError, match="2 rows and 1 places"):
        Rows([{}, {}], [Place("x")])
