"""Adapters in repositories of the Hub: sent with a card made from facts, and downloaded file by file.

All requests are made by `huggingface_hub`: its token, cache, offline mode and endpoint are used as they are set. Of a repository
only the files of the formats that are read are downloaded, after their sizes were asked for. Nothing in it is run.
"""

from graftwork.hub.downloading import located
from graftwork.hub.facts import Score, TrainingFacts
from graftwork.hub.preparing import Prepared, Wishes, prepare
from graftwork.hub.sending import Pushed, send

__all__ = ["Prepared", "Pushed", "Score", "TrainingFacts", "Wishes", "located", "prepare", "send"]
