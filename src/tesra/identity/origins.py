"""Where a call comes from, as far as it says so."""

import ipaddress
from dataclasses import dataclass

ADDRESS_MAX_CHARACTERS = 64
AGENT_MAX_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """The address of whoever calls, and what their program calls itself."""

    address: str
    user_agent: str | None = None

    @classmethod
    def of(cls, address: str | None, user_agent: str | None) -> "Origin":
        """Cut to what is kept, without what can't be shown."""
        agent = "".join(c for c in user_agent or "" if c.isprintable())[:AGENT_MAX_CHARACTERS]
        return cls((address or "unknown")[:ADDRESS_MAX_CHARACTERS], agent or None)


def subscriber_of(address: str) -> str:
    """What counts as one address: an IPv6 subscriber has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address[:ADDRESS_MAX_CHARACTERS]
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
