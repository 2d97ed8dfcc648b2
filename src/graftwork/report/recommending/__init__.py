"""What to choose: from needs, a base and the user's own figures, else the literature's, to a ranked choice with reasons."""

from graftwork.report.recommending.asked import Asked, advise
from graftwork.report.recommending.base import Base, Count
from graftwork.report.recommending.evidence import Evidence, Reason
from graftwork.report.recommending.facts import FACTS, Fact
from graftwork.report.recommending.measured import Figure, read_figures
from graftwork.report.recommending.needs import Needs
from graftwork.report.recommending.ranking import Advice, Choice, recommend
from graftwork.report.recommending.shown import advice_as_dict, print_advice

__all__ = [
    "FACTS",
    "Advice",
    "Asked",
    "Base",
    "Choice",
    "Count",
    "Evidence",
    "Fact",
    "Figure",
    "Needs",
    "Reason",
    "advice_as_dict",
    "advise",
    "print_advice",
    "read_figures",
    "recommend",
]
