"""Paths of drives, and what a private one does not give away to the server."""

import pytest

from tesra.cli.addresses import NotInTheDrive, anywhere, inside
from tesra.sdk.private.places import (
    DriveNameInvalid,
    NeedsTheServersEyes,
    Place,
    check_drive_name,
    parse_place,
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/a/b", Place(None, "/a/b")),
        ("a/b", Place(None, "a/b")),
        ("/a:/b", Place(None, "/a:/b")),
        ("a:b", Place(None, "a:b")),
        ("diary:/a:/b", Place("diary", "/a:/b")),
        ("diary:", Place("diary", "/")),
        ("diary:/", Place("diary", "/")),
        ("日记 2:/数据", Place("日记 2", "/数据")),
        ("diary:/two\nlines", Place("diary", "/two\nlines")),
    ],
)
def test_a_path_is_in_one_drive(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("xingpan:/a", "/a"),
        ("xingpan:a/b", "/a/b"),
        ("xingpan://a/b", "/a/b"),
        ("xingpan:diary:/a", "diary:/a"),
        ("xingpan:diary:", "diary:/"),
    ],
)
def test_a_path_on_the_command_line_names_its_drive(written: str, meant: str) -> None:
    assert anywhere(written) == meant


def test_what_the_server_has_to_read_is_refused_for_a_private_path() -> None:
    assert inside("xingpan:/a") == "/a"
    with pytest.raises(NeedsTheServersEyes, match="private drive 'diary'") as refused:
        inside("xingpan:diary:/a")
    assert "tesra drive get xingpan:diary:/a" in str(refused.value.way_out)
    with pytest.raises(NotInTheDrive):
        inside("diary:/a")


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "a:b", ".", "..", "x" * 65, "a\nb", "a\0b", "50%"]
)
def test_a_name_that_no_path_can_hold_is_refused(name: str) -> None:
    with pytest.raises(DriveNameInvalid):
        check_drive_name(name)


def test_a_name_has_one_unicode_form() -> None:
    assert check_drive_name(" cafe\u0301 ") == "caf\u00e9"
    assert parse_place("cafe\u0301:/a").drive == "caf\u00e9"
