"""Signatures, and the canonical text that they are over."""

from pathlib import Path

import pytest

from tesra.crypto.signing import Signer, is_signed
from tesra.kit.canonical import canonical_json


def test_signature_holds_for_its_message_and_key_alone(tmp_path: Path) -> None:
    signer, other = Signer.at(tmp_path / "a.key"), Signer.at(tmp_path / "b.key")
    signature = signer.sign(b"bill")
    assert is_signed(b"bill", signature, signer.public)
    assert not is_signed(b"bild", signature, signer.public)
    assert not is_signed(b"bill", signature, other.public)
    assert not is_signed(b"bill", b"short", signer.public)
    assert not is_signed(b"bill", signature, b"no key")
    assert Signer.at(tmp_path / "a.key").key_id == signer.key_id


def test_equal_values_have_one_text() -> None:
    assert (
        canonical_json({"b": [1, 0.1, None], "a": "学"}) == '{"a":"学","b":[1,0.1,null]}'.encode()
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"loss": float("nan")})
