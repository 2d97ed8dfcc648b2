"""What folders hold, for a reader: a table of many, or the facts of one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from graftwork.report.formatting import named_score, size
from graftwork.report.table import Table, print_text
from graftwork.shelf import FolderInfo, HeadInfo

_COLUMNS = ["name", "format", "method", "base", "task", "weights", "size", "date", "folder"]
_SHOWN = 8


def print_folders(found: Sequence[FolderInfo], console: Console) -> None:
    """Print a table of folders: one line each, and the damaged ones with the reason below it."""
    whole = [one for one in found if one.damage is None]
    notes = [f"damaged: {one.folder}: {one.damage}" for one in found if one.damage is not None]
    table = Table(f"{len(whole)} found", _COLUMNS, [_row(one) for one in whole], notes)
    if console.is_terminal:
        console.print(table.rich())
    else:
        print_text(table.text().rstrip("\n"), console)


def _row(one: FolderInfo) -> list[str]:
    when = "" if one.modified is None else f"{one.modified:%Y-%m-%d}"
    facts = [one.name, one.format, one.method, str(one.base), one.task or "", f"{one.weights:,d}", size(one.bytes)]
    return [*facts, when, str(one.folder)]


def print_folder(found: FolderInfo, console: Console) -> None:
    """Print what is known of one folder, a fact a line."""
    base, past = found.base, found.history
    facts = {
        "what": f"{found.kind} {found.name!r}, in the format {found.format}",
        "method": found.method,
        "options": ", ".join(f"{key}={value!r}" for key, value in found.options.items()),
        "members": ", ".join(found.members[:_SHOWN])
        + (f" and {len(found.members) - _SHOWN} more" if found.members[_SHOWN:] else ""),
        "base": ", ".join(one for one in (base.name, base.model_type, base.model_class) if one),
        "layers": ", ".join(f"{stack or 'the model'}: {n} × {width}" for stack, (n, width) in base.stacks.items()),
        "width": "" if base.width is None else str(base.width),
        "weights": f"{found.weights:,d}" + (f", and {found.head_weights:,d} of heads" if found.head_weights else ""),
        "files": size(found.bytes),
        "head": "; ".join(map(_head, found.heads)),
        "written by": past.written_by or "",
        "run": "" if past.run is None else f"{past.run}, unit {past.unit}",
        "task": past.task or "",
        "score": ""
        if past.score is None or past.metric is None
        else f"{named_score(past.score, past.metric)} ({past.scored_on})",
        "date": "" if found.modified is None else f"{found.modified:%Y-%m-%d %H:%M} UTC",
    }
    for name, value in facts.items():
        if value:
            print_text(f"{name + ':':12s}{value}", console)


def _head(head: HeadInfo) -> str:
    of = f"{head.member}: " if head.member else ""
    return f"{of}{head.kind}" + (f" ({', '.join(head.labels)})" if head.labels else "")
