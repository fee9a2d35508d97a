"""Credentials of sites: a shared secret per site until certificates replace it."""

import hashlib
import hmac
from collections.abc import Mapping

from tesra.kit.ids import SiteId


class SiteCredentials:
    """Knows which site a token belongs to; keeps only hashes."""

    def __init__(self, tokens: Mapping[SiteId, str]) -> None:
        self._hashes = {site: _digest(token) for site, token in tokens.items()}

    def site_of(self, token: str) -> SiteId | None:
        """The site that ``token`` was given to, compared in constant time; None if there is none."""
        digest = _digest(token)
        found = None
        for site, known in self._hashes.items():
            if hmac.compare_digest(known, digest):
                found = site
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
