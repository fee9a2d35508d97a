"""Names in the form in which they are searched."""

import pytest

from tesra.storage.names import QueryInvalid, matches, normal, pairs, query_words


def test_look_alikes_are_one() -> None:
    assert {normal(name) for name in ("Ａ", "A", "a")} == {"a"}
    assert normal("e\u0301") == normal("É")
    assert normal("Straße") == normal("STRASSE")


def test_pairs_of_a_name() -> None:
    assert pairs("数字识别") == {"数字", "字识", "识别"}
    assert pairs("a") == set()


def test_all_words_have_to_be_there() -> None:
    words = query_words("  数字  CSV ")
    assert words == ["数字", "csv"]
    assert matches(words, normal("手写数字.CSV"))
    assert not matches(words, normal("手写数字.txt"))


@pytest.mark.parametrize("query", ["", "   ", "a b c d e f g h i", "x" * 201])
def test_a_query_is_bounded(query: str) -> None:
    with pytest.raises(QueryInvalid):
        query_words(query)
