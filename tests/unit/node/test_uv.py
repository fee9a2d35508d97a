"""uv is run as the machine is set up for pip and uv."""

from pathlib import Path

from tesra.node.uv import PipSettings, pip_settings, uv_environ, without_machine

CONFIG = """:env:.find-links='/somewhere'
global.extra-index-url='https://one.example/simple https://two.example/simple'
global.find-links='/from/file'
install.upgrade='true'
"""


def test_pips_variables_come_before_its_files() -> None:
    settings = pip_settings(
        CONFIG, {"PIP_FIND_LINKS": "/from/variable /second", "PIP_CERT": "/ca.pem"}
    )
    assert settings.find_links == ("/from/variable", "/second")
    assert settings.extra_index_urls == ("https://one.example/simple", "https://two.example/simple")
    assert settings.cert == "/ca.pem"
    assert pip_settings(CONFIG, {}).find_links == ("/from/file",)


def test_only_folders_that_exist_are_used(tmp_path: Path) -> None:
    links = (str(tmp_path), f"file://{tmp_path}", "/does/not/exist", "https://example.org/wheels")
    assert PipSettings(find_links=links).folders() == [tmp_path, tmp_path]


def test_uv_gets_indexes_certificates_and_proxies_and_nothing_of_ours() -> None:
    environ = {
        "PATH": "/bin",
        "https_proxy": "http://proxy",
        "UV_HTTP_TIMEOUT": "9",
        "UV_CACHE_DIR": "/x",
        "TESRA_TOKEN": "secret",
        "VIRTUAL_ENV": "/x",
        "PYTHONPATH": "/x",
    }
    given = uv_environ(
        environ, PipSettings(index_url="https://one.example", cert="/ca.pem"), Path("/cache")
    )
    assert given["UV_DEFAULT_INDEX"] == "https://one.example"
    assert given["SSL_CERT_FILE"] == "/ca.pem"
    assert (given["https_proxy"], given["UV_HTTP_TIMEOUT"]) == ("http://proxy", "9")
    assert given["UV_CACHE_DIR"] == "/cache"
    assert not given.keys() & {"TESRA_TOKEN", "VIRTUAL_ENV", "PYTHONPATH"}


def test_uvs_own_index_settings_win_over_pips() -> None:
    pip = PipSettings(index_url="https://pip.example", extra_index_urls=("https://more.example",))
    given = uv_environ({"UV_DEFAULT_INDEX": "https://uv.example"}, pip, Path("/cache"))
    assert given["UV_DEFAULT_INDEX"] == "https://uv.example"
    assert "UV_EXTRA_INDEX_URL" not in given


def test_words_for_users_carry_no_path_address_or_colour() -> None:
    line = "\x1b[31merror\x1b[0m: cannot fetch `https://user:pw@host.example/simple/six/` to /root/.cache/uv/x-1"
    assert without_machine(line) == "error: cannot fetch `…` to …"
    assert without_machine("torch>=2.0,<3 and either/or") == "torch>=2.0,<3 and either/or"
