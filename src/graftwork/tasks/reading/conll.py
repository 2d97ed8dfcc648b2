"""Words with their tags, one a line, sentences with empty lines between them: CoNLL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graftwork.errors import TaskError
from graftwork.tasks.rows import Place, Row

_COLUMNS = (0, -1)  # the word first, the tag last, as in CoNLL-2003
_UNIVERSAL = (1, 3)  # CoNLL-U: number, word, lemma, part of speech


def read_conll(path: Path, text: str) -> Iterator[tuple[Row, Place]]:
    """A row a sentence: ``tokens``, and ``tags`` where lines have more than the word; of ``.conllu`` the parts of speech.

    Lines of ``-DOCSTART-`` and comments before a sentence (``# id 7``) are left out.
    """
    universal = ".conllu" in path.suffixes
    word, tag = _UNIVERSAL if universal else _COLUMNS
    sentence: list[list[str]] = []
    begun = width = 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        cells = line.rstrip("\r").split("\t") if "\t" in line else line.split()
        comment = line.startswith("#") and not sentence and len(cells) != width
        if not line.strip() or line.startswith("-DOCSTART-") or comment:
            if sentence:
                tags = {"tags": [cells[tag] for cells in sentence]} if width > 1 else {}
                yield {"tokens": [cells[word] for cells in sentence], **tags}, Place(str(path), begun)
            sentence, begun = [], number + 1
            continue
        width = width or len(cells)
        if len(cells) != width or (universal and width < 4):
            raise TaskError(
                f"{path}:{number}: {len(cells)} columns, and the lines before have {width}; a line is a word and its tag, with "
                "an empty line between two sentences"
            )
        if (
            not universal or cells[0].isdigit()
        ):  # 3-4 and 5.1 are words that have lines of their own, or none in the text
            sentence.append(cells)
