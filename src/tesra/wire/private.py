"""Private drives: what the server keeps of them is sealed, signed, or an id of a pack."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from tesra.wire.common import Answer, Wire
from tesra.wire.drive import Hex32

ID_PATTERN = r"^{}_[0-9a-hj-km-np-tv-z]{{26}}$"
PrivateId = Annotated[str, Field(pattern=ID_PATTERN.format("prv"))]
EpochName = Annotated[str, Field(pattern=ID_PATTERN.format("epo"))]
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=2**19)]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Version = Annotated[int, Field(ge=1, le=2**62)]


class SignedHead(Wire):
    """A version of the tree: sealed under its epoch, signed with the drive's key."""

    version: Version
    epoch: EpochName
    sealed: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=8192)]
    signature: Hex64


class NewPrivateDrive(Wire):
    """A drive with its first epoch; ``document`` is its signed key document."""

    verify_key: Hex32
    epoch: EpochName
    document: Hex


class KeysMove(Wire):
    """Key document ``number`` in the place of the one before.

    With ``epoch`` a new one begins, behind version ``at_version`` of the tree (0: none yet).
    """

    number: int = Field(ge=2, le=2**31 - 1)
    document: Hex
    epoch: EpochName | None = None
    at_version: int | None = Field(default=None, ge=0, le=2**62)


class HeadMove(Wire):
    """The next version. ``packs``: where all lies that this version has and the ones before lack."""

    head: SignedHead
    packs: list[Hex32] = Field(max_length=100_000)


class Prune(Wire):
    """Forget the versions before ``keep_from``: the rest needs ``packs`` and no others.

    Signed with the drive's key; ``at_version`` is the head that the packs were worked out at.
    """

    at_version: Version
    keep_from: Version
    packs: list[Hex32] = Field(max_length=100_000)
    signature: Hex64


class Farewell(Wire):
    """The drive's own signature under its end."""

    signature: Hex64


class HeadKept(Answer):
    """One version as the server has it."""

    version: int
    epoch: str
    sealed: str
    signature: str
    stored_at: datetime


class PrivateDrive(Answer):
    """``head`` is null as long as nothing was put; ``epoch`` is the one to write under."""

    id: str
    verify_key: str
    number: int
    document: str
    epoch: str
    head: HeadKept | None
    created_at: datetime


class ChunksAsked(Wire):
    ids: list[Hex32] = Field(max_length=20_000)


class SealedAt(Answer):
    """Where a sealed chunk lies, and under which epoch; ``size`` is its plain size."""

    epoch: str
    pack: str
    offset: int
    length: int
    size: int


class ChunksFound(Answer):
    """Those of the chunks that are stored."""

    chunks: dict[str, SealedAt]


class Pruned(Answer):
    """How many versions were forgotten."""

    versions: int


class PacksAsked(Wire):
    packs: list[Hex32] = Field(max_length=20_000)


class PackHealth(Answer):
    """As of a file (`FileHealth`)."""

    copies: int
    machines: int
    last_proof: datetime | None
    state: str
    away: int


class PacksHealth(Answer):
    """``wanted``: how many copies of each there shall be."""

    wanted: int
    packs: dict[str, PackHealth]
