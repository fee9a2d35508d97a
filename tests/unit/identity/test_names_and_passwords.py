import pytest

from tesra.identity.model import (
    NameInvalid,
    NameTaken,
    PasswordTooShort,
    name_key,
    new_name,
    new_password,
    normalise_name,
)


@pytest.mark.parametrize("name", ["ada", "A", "x" * 64, "王小明", "名.字_1-2", "Ünal", "🦊fox"])
def test_visible_names_are_kept_as_they_are(name: str) -> None:
    assert normalise_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 65,
        "a/b",
        "a b",
        "a\x00b",
        "a\nb",
        "a\u200bb",
        "a\u202eb",
        "\ud800",
        "\u0301a",
        "\u3000",
    ],
)
def test_invisible_or_path_like_names_are_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        normalise_name(name)


def test_names_are_normalised_to_their_compatible_form() -> None:
    assert normalise_name("ＡＤＡ①") == "ADA1"


def test_length_is_counted_after_normalisation() -> None:
    with pytest.raises(NameInvalid):
        normalise_name("\ufdfa" * 30)  # each becomes 18 characters, some of them spaces


@pytest.mark.parametrize(("one", "other"), [("Ada", "ADA"), ("straße", "STRASSE"), ("Ａda", "ada")])
def test_names_that_differ_in_case_or_width_are_the_same(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize("name", ["operator", "Operator", "ＯＰＥＲＡＴＯＲ", "tesra", "..", "."])
def test_reserved_names_cannot_be_registered(name: str) -> None:
    with pytest.raises(NameTaken):
        new_name(name)


def test_a_password_of_seven_characters_is_too_short() -> None:
    with pytest.raises(PasswordTooShort):
        new_password("1234567")


def test_a_chinese_password_of_eight_characters_is_enough() -> None:
    assert new_password("春眠不觉晓处处闻") == "春眠不觉晓处处闻"
