"""Who may enrol as a storage peer: the secret that the operator gives out."""

import hmac


class PeerCredentials:
    """One enrolment secret for the whole network, and what each peer is called by it."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def admits(self, token: str) -> bool:
        """Whether ``token`` is the secret, compared in constant time."""
        return hmac.compare_digest(self._secret.encode(), token.encode("utf-8", "surrogatepass"))
