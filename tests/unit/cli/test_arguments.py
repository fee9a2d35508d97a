from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.cli import arguments


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0", 0),
        ("0.1", 0.1),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("1e5", 100000.0),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1e999", "1e999"),
        ("", ""),
        ("adam", "adam"),
        ("1.2.3", "1.2.3"),
        (" 3", " 3"),
        ("٣", "٣"),
    ],
)
def test_a_parameter_has_the_type_that_it_looks_like(text: str, value: object) -> None:
    found = arguments.typed(text)
    assert found == value
    assert type(found) is type(value)


@given(st.integers(-(2**53), 2**53))
def test_every_integer_stays_one(number: int) -> None:
    assert arguments.typed(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_keeps_its_value(number: float) -> None:
    assert arguments.typed(repr(number)) == number


def test_only_the_first_equals_sign_divides() -> None:
    assert arguments.params(["a=b=c", "lr=0.2"]) == {"a": "b=c", "lr": 0.2}


@pytest.mark.parametrize("text", ["lr", "=1", ""])
def test_a_pair_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(arguments.ArgumentInvalid):
        arguments.params([text])


def test_a_secret_comes_from_the_environment_or_is_asked_for() -> None:
    asked = arguments.secrets(["A", "B"], {"A": "1"}, lambda name: f"typed {name}")
    assert asked == {"A": "1", "B": "typed B"}


def test_a_secret_that_nobody_can_be_asked_for_is_named() -> None:
    with pytest.raises(arguments.SecretMissing, match="TOKEN"):
        arguments.secrets(["TOKEN"], {}, None)


def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    with pytest.raises(arguments.ArgumentInvalid) as caught:
        arguments.secrets(["TOKEN=hunter2"], {}, None)
    assert "hunter2" not in f"{caught.value} {caught.value.way_out}"


def test_an_entry_is_text_or_a_list_of_words() -> None:
    assert arguments.entry("pkg.module:main") == "pkg.module:main"
    assert arguments.entry('["python", "train.py"]') == ["python", "train.py"]


@pytest.mark.parametrize("text", ["[]", "[1]", "[oops", '["a", null]'])
def test_an_entry_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(arguments.ArgumentInvalid):
        arguments.entry(text)


def test_folders_archives_and_addresses_are_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "code.zip").touch()
    (tmp_path / "digits").touch()
    for source in ("folder", "code.zip", ".", "./digits", "https://host/x.git", "git@host:x.git"):
        assert arguments.is_source(source), source
    for name in ("digits", "other", "prj_01k"):
        assert not arguments.is_source(name), name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90", 90), ("90s", 90), ("30min", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400)],
)
def test_a_time_is_understood(text: str, wanted: int) -> None:
    assert arguments.seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "0", "soon", "2 h", "-1h", "1h30m5x", "5 10"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(arguments.ArgumentInvalid):
        arguments.seconds(text)


def test_a_priority_is_a_name_or_a_number() -> None:
    assert [arguments.priority(text) for text in ("low", "normal", "high", "-7")] == [
        -50,
        0,
        50,
        -7,
    ]
    for wrong in ("urgent", "101", "1.5", ""):
        with pytest.raises(arguments.ArgumentInvalid):
            arguments.priority(wrong)


def test_a_name_that_is_given_twice_is_refused_with_both_values() -> None:
    with pytest.raises(arguments.ArgumentInvalid, match="lr is given twice, as '1' and as '2'"):
        arguments.params(["lr=1", "lr=2"])


def test_without_a_flag_the_words_stand_alone() -> None:
    with pytest.raises(arguments.ArgumentInvalid) as refusal:
        arguments.params(["=3"], flag="")
    assert str(refusal.value) == "'=3' is not NAME=VALUE."
    assert refusal.value.way_out == "Write it like name=value."
