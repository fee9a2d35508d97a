"""Where the network is and who is asking: flags before the environment before the stored login.

A stored token is only ever sent to the address that gave it. The file is private (0600) and is
replaced as a whole, so that a crash leaves the old one or the new one.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from tesra.kit.errors import Invalid, NotFound
from tesra.kit.settings import Home, default_home


class NetworkUnknown(NotFound):
    """No Tesra network is known here."""


class AddressInvalid(Invalid):
    """An address begins with http:// or https://."""


class LoginsUnreadable(Invalid):
    """The file of stored logins can't be read."""


@dataclass(frozen=True, slots=True)
class Login:
    """One stored sign-in."""

    url: str
    token: str
    name: str


@dataclass(frozen=True, slots=True)
class Access:
    """What a client needs to speak: an address, and a token unless nobody is signed in."""

    url: str
    token: str | None


class LoginStore:
    """The user's sign-ins, keyed by address, with a current one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "logins.json"

    def current(self) -> Login | None:
        """The sign-in that was made last."""
        return self.find(self._read()[0])

    def find(self, url: str | None) -> Login | None:
        """The sign-in at one address."""
        return self._read()[1].get(url) if url else None

    def save(self, login: Login) -> None:
        """Remember a sign-in and make it the current one."""
        _, logins = self._read()
        self._write(login.url, {**logins, login.url: login})

    def forget(self, url: str) -> None:
        """Drop the sign-in at an address; none is current when it was."""
        current, logins = self._read()
        logins.pop(url, None)
        self._write(None if current == url else current, logins)

    def _read(self) -> tuple[str | None, dict[str, Login]]:
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            logins = {url: Login(**login) for url, login in stored["logins"].items()}
        except FileNotFoundError:
            return None, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoginsUnreadable(
                f"The file of stored logins, {self._path}, can't be read.",
                way_out="Remove it, then sign in again with `tesra login`.",
            ) from error
        return stored.get("current"), logins

    def _write(self, current: str | None, logins: Mapping[str, Login]) -> None:
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stored = {
            "current": current,
            "logins": {url: asdict(login) for url, login in logins.items()},
        }
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".logins-")  # made with 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(stored, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``TESRA_CONFIG_DIR``, else the user's configuration folder."""
    folder = environ.get("TESRA_CONFIG_DIR")
    return Path(folder) if folder else Path(platformdirs.user_config_dir("tesra"))


def login_store(environ: Mapping[str, str] = os.environ) -> LoginStore:
    """The store in the configuration folder."""
    return LoginStore(config_folder(environ))


def find_access(
    *,
    url: str | None = None,
    token: str | None = None,
    home: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """Address and token from arguments, else the environment, else the stored login.

    Without any of them the network that runs in the default home is meant. Raises
    ``NetworkUnknown`` when there is none either.
    """
    store = login_store(environ)
    address = _named_address(url, home, environ)
    if address is None:
        login = store.current()
        address = login.url if login else _address_of_home(default_home(environ), named=False)
    given = token or environ.get("TESRA_TOKEN")
    if given:
        return Access(address, given)
    stored = store.find(address)
    return Access(address, stored.token if stored else None)


def _named_address(
    url: str | None, home: Path | str | None, environ: Mapping[str, str]
) -> str | None:
    if url:
        return clean_address(url)
    if home:
        return _address_of_home(Path(home), named=True)
    if environ.get("TESRA_URL"):
        return clean_address(environ["TESRA_URL"])
    if environ.get("TESRA_HOME"):
        return _address_of_home(default_home(environ), named=True)
    return None


def clean_address(url: str) -> str:
    """One spelling for one address: lower-case scheme and host, no slash at the end."""
    refused = AddressInvalid(
        f"'{url}' is not an address of a server.", way_out="Say it like http://127.0.0.1:8420."
    )
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise refused from error
    if parts.scheme not in {"http", "https"} or not host:
        raise refused
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _address_of_home(home: Path, *, named: bool) -> str:
    path = home.expanduser().absolute()
    try:
        return clean_address(str(json.loads(Home(path).config.read_text("utf-8"))["url"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NetworkUnknown(
            f"No network has been started in {path}." if named else "No network is known here.",
            way_out="`tesra up` starts one on this machine; `--url` or TESRA_URL names another.",
        ) from error
