"""Settings come from arguments, then the environment, then the defaults."""

from pathlib import Path

import pytest

from tesra.kit.settings import DEFAULT_PORT, SettingInvalid, read_settings


def test_arguments_come_before_the_environment_before_the_defaults() -> None:
    environ = {"TESRA_HOME": "/of/environ", "TESRA_PORT": "9000", "TESRA_QUOTA_BYTES": ""}
    found = read_settings(environ=environ)
    assert (found.home.root, found.port, found.quota_bytes) == (
        Path("/of/environ"),
        9000,
        10 * 2**30,
    )
    flags = read_settings(home=Path("/of/flag"), port=1, environ=environ)
    assert (flags.home.root, flags.port) == (Path("/of/flag"), 1)
    assert read_settings(environ={}).port == DEFAULT_PORT


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "٣"])
def test_what_is_no_number_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(SettingInvalid, match="TESRA_PORT"):
        read_settings(environ={"TESRA_PORT": text})


def test_a_limit_of_no_accounts_is_refused() -> None:
    assert read_settings(environ={}).registrations_per_hour == 60
    with pytest.raises(SettingInvalid, match="TESRA_REGISTRATIONS_PER_HOUR"):
        read_settings(environ={"TESRA_REGISTRATIONS_PER_HOUR": "0"})
