import json
import stat
from pathlib import Path

import pytest

from tesra.sdk.credentials import (
    Access,
    AddressInvalid,
    Login,
    LoginStore,
    LoginsUnreadable,
    NetworkUnknown,
    clean_address,
    find_access,
)

HERE = "http://127.0.0.1:8420"
THERE = "https://tesra.example"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"TESRA_CONFIG_DIR": str(tmp_path / "config")}


@pytest.fixture
def store(environ: dict[str, str]) -> LoginStore:
    return LoginStore(Path(environ["TESRA_CONFIG_DIR"]))


def home_at(folder: Path, url: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"url": url, "port": 1}))
    return folder


def test_the_file_is_private_and_whole(store: LoginStore, environ: dict[str, str]) -> None:
    store.save(Login(HERE, "secret", "ann"))
    folder = Path(environ["TESRA_CONFIG_DIR"])
    assert [path.name for path in folder.iterdir()] == ["logins.json"]
    assert stat.S_IMODE((folder / "logins.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_last_login_is_the_current_one(store: LoginStore, environ: dict[str, str]) -> None:
    store.save(Login(HERE, "one", "ann"))
    store.save(Login(THERE, "two", "ben"))
    assert find_access(environ=environ) == Access(THERE, "two")


def test_forgetting_the_current_login_keeps_the_others(store: LoginStore) -> None:
    store.save(Login(HERE, "one", "ann"))
    store.save(Login(THERE, "two", "ben"))
    store.forget(THERE)
    assert store.current() is None
    assert store.find(HERE) == Login(HERE, "one", "ann")


def test_a_stored_token_goes_only_to_its_own_address(
    store: LoginStore, environ: dict[str, str]
) -> None:
    store.save(Login(HERE, "one", "ann"))
    assert find_access(url=THERE, environ=environ) == Access(THERE, None)
    assert find_access(url=HERE + "/", environ=environ) == Access(HERE, "one")


def test_flags_come_before_the_environment(environ: dict[str, str], tmp_path: Path) -> None:
    environ |= {"TESRA_URL": THERE, "TESRA_TOKEN": "env"}
    home = home_at(tmp_path / "home", HERE)
    assert find_access(url=HERE, token="flag", environ=environ) == Access(HERE, "flag")
    assert find_access(home=home, environ=environ) == Access(HERE, "env")


def test_the_environment_comes_before_the_stored_login(
    store: LoginStore, environ: dict[str, str], tmp_path: Path
) -> None:
    store.save(Login(HERE, "home's", "ann"))
    store.save(Login(THERE, "current", "ben"))
    environ["TESRA_HOME"] = str(home_at(tmp_path / "home", HERE))
    assert find_access(environ=environ) == Access(HERE, "home's")
    environ["TESRA_URL"] = THERE
    assert find_access(environ=environ) == Access(THERE, "current")


def test_a_home_without_a_network_says_how_to_start_one(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["TESRA_HOME"] = str(tmp_path / "nothing")
    with pytest.raises(NetworkUnknown) as caught:
        find_access(environ=environ)
    assert "tesra up" in str(caught.value.way_out)


def test_an_unreadable_file_is_named(store: LoginStore, environ: dict[str, str]) -> None:
    folder = Path(environ["TESRA_CONFIG_DIR"])
    folder.mkdir()
    (folder / "logins.json").write_text("[]")
    with pytest.raises(LoginsUnreadable, match=r"logins\.json"):
        store.current()


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("HTTP://LocalHost:80/", "http://localhost:80"),
        ("https://tesra.example/base/", "https://tesra.example/base"),
        ("http://[::1]:8420", "http://[::1]:8420"),
    ],
)
def test_an_address_has_one_spelling(said: str, clean: str) -> None:
    assert clean_address(said) == clean


@pytest.mark.parametrize(
    "said", ["", "localhost:8420", "ftp://a", "http://", "http://a:b", "http://[x"]
)
def test_what_is_no_address_is_refused(said: str) -> None:
    with pytest.raises(AddressInvalid):
        clean_address(said)
