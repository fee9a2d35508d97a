from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from tesra.wire.common import Wire


class Note(Wire):
    text: str = ""
    extra: dict[str, Any] = Field(default={})


@pytest.mark.parametrize(
    "body",
    [
        {"text": "a\x00b"},
        {"text": "\ud800"},
        {"extra": {"k": ["deep", {"er": "\x00"}]}},
        {"extra": {"\x00": 1}},
        {"extra": {"k": float("nan")}},
        {"extra": {"k": float("inf")}},
        {"extra": {"k": 2**63}},
        {"extra": {"k": -(2**63) - 1}},
    ],
)
def test_what_the_database_cannot_hold_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Note.model_validate(body)


def test_a_message_nested_too_deeply_is_refused() -> None:
    nested: Any = 1
    for _ in range(500):
        nested = [nested]
    with pytest.raises(ValidationError):
        Note.model_validate({"extra": {"k": nested}})


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_any_other_text_is_accepted(text: str) -> None:
    assert Note(text=text, extra={text: 2**63 - 1}).text == text
