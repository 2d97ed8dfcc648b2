"""Recommendations: a ranked choice of methods with reasons, from needs, a base, and the user's or published figures."""

from graftwork.report.recommending.base import Base, Count
from graftwork.report.recommending.measured import Evidence, Figure, Needs, read_figures
from graftwork.report.recommending.ranking import FACTS, Advice, Choice, Reason, recommend
from graftwork.report.recommending.shown import advice_as_dict, print_advice

__all__ = ["FACTS", "Advice", "Base", "Choice", "Count", "Evidence", "Figure", "Needs", "Reason"]
__all__ += ["advice_as_dict", "print_advice", "read_figures", "recommend"]
