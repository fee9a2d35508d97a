import pytest

from tesra.identity import tokens


def test_a_minted_token_parses_to_its_own_key() -> None:
    key, text = tokens.mint()
    assert text.startswith("tsr_")
    assert tokens.parse(text) == key


def test_the_stored_key_holds_nothing_of_the_secret() -> None:
    key, text = tokens.mint()
    secret = text.rsplit("_", 1)[1]
    assert secret not in key.id
    assert key.secret_hash.hex() != secret
    assert bytes.fromhex(secret) != key.secret_hash


def test_two_tokens_differ() -> None:
    assert tokens.mint() != tokens.mint()


@pytest.mark.parametrize(
    "text", ["", "tsr_", "tsr_x_y", "Bearer", "tok_1", "tsr_" + "0" * 26 + "_" + "g" * 64, "☃"]
)
def test_what_has_not_the_form_of_a_token_has_no_key(text: str) -> None:
    assert tokens.parse(text) is None


def test_nothing_may_follow_a_token() -> None:
    _, text = tokens.mint()
    assert tokens.parse(text + "\n") is None
    assert tokens.parse(" " + text) is None
