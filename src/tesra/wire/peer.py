"""Messages between a storage peer and the server: see docs/spec/peer-protocol.md."""

import base64
from typing import Annotated, Literal

from pydantic import Field

from tesra.kit.saying import Said
from tesra.wire.common import Answer, Wire
from tesra.wire.drive import Hex32

MAX_INVENTORY = 200_000
Host = Annotated[str, Field(min_length=1, max_length=255)]


class PeerEnrolment(Wire):
    """Sent at each start. ``request``: a certificate signing request (PEM) with the peer's key.

    ``machine`` tells peers of one machine from those of another, ``site`` those of one place, if
    it is said; ``holds``: every pack that is whole on the peer's disk.
    """

    peer: str = Field(pattern=r"^peer_[0-9a-z]{26}$")
    name: str = Field(min_length=1, max_length=64)
    machine: str = Field(min_length=1, max_length=128)
    site: str = Field(default="", max_length=64)
    host: Host
    port: int = Field(ge=1, le=65_535)
    capacity_bytes: int = Field(ge=0)
    gateway: bool = False
    request: str = Field(max_length=8192)
    holds: list[Hex32] = Field(default=[], max_length=MAX_INVENTORY)


class PeerEnrolled(Answer):
    """The certificate that lets the peer into swarms, and the authority it has to trust (PEM)."""

    certificate: str
    authority: str
    renew_after_s: int


class PackTruth(Answer):
    """A pack's Merkle tree (hex): what makes any holder's bytes believable."""

    pack: str
    size_bytes: int
    root: str
    layer: str


class PeerAddress(Answer):
    host: str
    port: int


class FetchOrder(Answer):
    """Bring this pack here, from these peers at once; they serve it by now. No peer is named: the
    server has it."""

    pack: PackTruth
    sources: list[PeerAddress]


class ProofOrder(Answer):
    """Show these blocks (of 16 KiB, counted through the pack) of a pack."""

    audit: str
    pack: str
    blocks: list[int]


class PeerOrders(Answer):
    """All that the server wants of this peer now; ``version`` names this very list.

    ``serve``: packs to give to other peers; what is not named may rest. ``drop``: packs to
    delete. ``scrub``: packs to read through, by audit. ``quarantine``: packs whose copy is bad.
    Orders stay until a fact answers them, so a missed answer costs nothing.
    """

    version: str
    fetch: list[FetchOrder]
    serve: list[PackTruth]
    drop: list[str]
    prove: list[ProofOrder]
    scrub: list[str] = []
    quarantine: list[str] = []


class Serving(Wire):
    """The pack is open to other peers."""

    kind: Literal["serving"] = "serving"
    pack: Hex32


class Held(Wire):
    """The pack is whole, verified, and on the peer's disk for good."""

    kind: Literal["held"] = "held"
    pack: Hex32


class FetchFailed(Wire):
    """The pack could not be brought; ``full`` when there is no room for it."""

    kind: Literal["failed"] = "failed"
    pack: Hex32
    reason: Said = Field(max_length=512)
    full: bool = False


class Dropped(Wire):
    kind: Literal["dropped"] = "dropped"
    pack: Hex32


class Lost(Wire):
    """The peer does not have the pack any more; ``bad``: it has it, and it is not what it was."""

    kind: Literal["lost"] = "lost"
    pack: Hex32
    bad: bool = False
    reason: Said = Field(default=Said(""), max_length=512)


class ProvenBlock(Wire):
    """``data`` in Base64; ``path``: hashes (hex) from the block up to its piece."""

    block: int = Field(ge=0)
    data: str = Field(max_length=24_000)
    path: list[Hex32] = Field(max_length=16)

    def content(self) -> bytes:
        """The block's bytes; nothing when it is no Base64."""
        try:
            return base64.b64decode(self.data, validate=True)
        except ValueError:
            return b""


class Proof(Wire):
    """The answer to a ``ProofOrder``."""

    kind: Literal["proof"] = "proof"
    audit: str = Field(max_length=64)
    pack: Hex32
    blocks: list[ProvenBlock] = Field(max_length=64)


class Scrubbed(Wire):
    """All of the pack has been read, and it is what its name says."""

    kind: Literal["scrubbed"] = "scrubbed"
    pack: Hex32


class Quarantined(Wire):
    """The bad copy is out of the way: neither served nor taken for the pack."""

    kind: Literal["quarantined"] = "quarantined"
    pack: Hex32


Fact = Annotated[
    Serving | Held | FetchFailed | Dropped | Lost | Proof | Scrubbed | Quarantined,
    Field(discriminator="kind"),
]


class PeerFacts(Wire):
    """Each may be repeated: a fact says what is, not what changed."""

    facts: list[Fact] = Field(max_length=1000)
