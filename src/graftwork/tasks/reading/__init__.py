"""From files, folders and the Hub to rows."""

from graftwork.tasks.reading.files import read_rows, read_texts
from graftwork.tasks.reading.hold_out import deal, draw, hold_out
from graftwork.tasks.reading.paths import path_of
from graftwork.tasks.reading.splits import Splits, read_elsewhere, read_splits

__all__ = ["Splits", "deal", "draw", "hold_out", "path_of", "read_elsewhere", "read_rows", "read_splits", "read_texts"]
