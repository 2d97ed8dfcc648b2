"""What a run shows: a view while it is trained, and tables, plots and files of what came out."""

from graftwork.report.files import can_plot, state, write_report
from graftwork.report.gathered import Gathered, gather
from graftwork.report.live import Live
from graftwork.report.printing import print_files, print_next, print_tables
from graftwork.report.tables import Table, tables

__all__ = [
    "Gathered",
    "Live",
    "Table",
    "can_plot",
    "gather",
    "print_files",
    "print_next",
    "print_tables",
    "state",
    "tables",
    "write_report",
]
