"""What a run shows: a view while it is trained, and tables, plots and files of what came out."""

from graftwork.report.files import write_report
from graftwork.report.gathered import Gathered, gather
from graftwork.report.tables import Table, tables

__all__ = ["Gathered", "Table", "gather", "tables", "write_report"]
