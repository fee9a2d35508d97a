"""Names as they are searched: one form for what looks alike, and pairs of characters as terms.

Chinese has no blanks between words, so no words are cut: a query's parts may stand anywhere in a
name. Pure; the server and the owners of private drives search by the same rules.
"""

import unicodedata

from tesra.kit.errors import Invalid

MAX_QUERY_CHARACTERS = 200
MAX_WORDS = 8


class QueryInvalid(Invalid):
    """This can't be searched for."""


def normal(name: str) -> str:
    """Without differences of case, width and composition: ``Ａ``, ``A`` and ``a`` are one."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded)


def query_words(query: str) -> list[str]:
    """The parts of a query, all of which a name has to hold; raises ``QueryInvalid``."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise QueryInvalid(f"A query has at most {MAX_QUERY_CHARACTERS} characters.")
    words = list(dict.fromkeys(normal(query).split()))
    if not words:
        raise QueryInvalid("Say what to search for.")
    if len(words) > MAX_WORDS:
        raise QueryInvalid(f"A query has at most {MAX_WORDS} words.")
    return words


def pairs(text: str) -> set[str]:
    """Every two neighbouring characters."""
    return {text[i : i + 2] for i in range(len(text) - 1)}


def matches(words: list[str], name: str) -> bool:
    """Whether a name, in its normal form, holds all words of a query."""
    return all(word in name for word in words)
