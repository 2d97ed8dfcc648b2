"""Knowledge as text (Lauscher et al. 2020, arXiv:2005.11787): triples, random walks over them, sentences, and clozes.

triples.tsv ── Triple ── walks ── Sentences ── texts ── masked language modelling
                 └───── held out ── clozes ── cloze_ranks ── how well the objects are known
"""

from graftwork.tasks.knowledge.cloze import Cloze, ClozeScores, cloze_ranks, clozes, commonest, scores_of_ranks
from graftwork.tasks.knowledge.graph import Knowledge, KnowledgeSpec, read_knowledge
from graftwork.tasks.knowledge.sentences import Sentences, default_template
from graftwork.tasks.knowledge.triples import Triple, hold_out_triples, read_triples
from graftwork.tasks.knowledge.walks import walks

__all__ = [
    "Cloze",
    "ClozeScores",
    "Knowledge",
    "KnowledgeSpec",
    "Sentences",
    "Triple",
    "cloze_ranks",
    "clozes",
    "commonest",
    "default_template",
    "hold_out_triples",
    "read_knowledge",
    "read_triples",
    "scores_of_ranks",
    "walks",
]
