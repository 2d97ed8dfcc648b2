"""Reports of a run: a live view while it is trained, and tables, plots and files of its results."""

from graftwork.report.comparison import comparison_tables
from graftwork.report.files import print_all, print_files, print_next, print_tables, state, write_report
from graftwork.report.folders import print_folder, print_folders
from graftwork.report.formatting import printable
from graftwork.report.live import Live
from graftwork.report.method_docs.block_facts import BlockFacts, all_blocks
from graftwork.report.method_docs.method_facts import MethodFacts, all_facts
from graftwork.report.method_docs.method_list import methods_as_json, print_methods
from graftwork.report.method_docs.pages import block_pages, method_pages
from graftwork.report.page import write_page
from graftwork.report.plots import can_plot
from graftwork.report.publishing import prepare_run
from graftwork.report.run_data import Gathered, gather
from graftwork.report.sweeps import print_sweep, sweep_picture, sweep_table
from graftwork.report.table import Table, print_table, print_text
from graftwork.report.tables import tables

__all__ = [
    "BlockFacts",
    "Gathered",
    "Live",
    "MethodFacts",
    "Table",
    "all_blocks",
    "all_facts",
    "block_pages",
    "can_plot",
    "comparison_tables",
    "gather",
    "method_pages",
    "methods_as_json",
    "prepare_run",
    "print_all",
    "print_files",
    "print_folder",
    "print_folders",
    "print_methods",
    "print_next",
    "print_sweep",
    "print_table",
    "print_tables",
    "print_text",
    "printable",
    "state",
    "sweep_picture",
    "sweep_table",
    "tables",
    "write_page",
    "write_report",
]
