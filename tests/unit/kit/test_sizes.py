"""Sizes as people write them."""

import pytest

from tesra.kit.sizes import SizeInvalid, parse_disk, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("17", 17),
        ("50GB", 50 * 10**9),
        ("1.5 TiB", 3 * 2**39),
        ("800m", 800 * 10**6),
        ("4KiB", 4096),
    ],
)
def test_a_size_is_read_as_it_is_meant(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1,5GB", "5 bananas", "1e9"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SizeInvalid) as refused:
        parse_size(text)
    assert "50GB" in (refused.value.way_out or "")


def test_a_disk_that_could_keep_nothing_is_refused() -> None:
    """Mostly the unit is missing."""
    assert parse_disk("50GB") == 50 * 10**9
    for text in ("0", "50"):
        with pytest.raises(SizeInvalid, match=f"A disk of {text} B"):
            parse_disk(text)
