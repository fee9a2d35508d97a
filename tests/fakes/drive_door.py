"""The drive's door as threads of a node see it, on a drive in memory."""

from fakes.server import FakeDrive
from tesra.kit.errors import TesraError
from tesra.storage.packing import Pack
from tesra.wire.drive import PackReceipt, ReadPlan, UploadGrant


class FakeDoor:
    """Does what ``sdk.transfer.HttpDoor`` does; ``refuses`` raises at the next grants."""

    def __init__(self, drive: FakeDrive | None = None) -> None:
        self.drive = drive or FakeDrive()
        self.refuses: TesraError | None = None
        self.left_bytes = 2**30
        self.sent_bytes = 0

    def grant(self) -> UploadGrant:
        if self.refuses is not None:
            raise self.refuses
        keys = self.drive.keys
        return UploadGrant(
            drive="drive_1",
            epoch=keys.id,
            id_key=keys.id_key.hex(),
            data_key=keys.data_key.hex(),
            quota_left_bytes=self.left_bytes,
        )

    def missing(self, epoch: str, ids: list[str]) -> set[str]:
        return {c.hex() for c in self.drive.missing([bytes.fromhex(i) for i in ids])}

    def put_pack(self, epoch: str, pack: Pack) -> PackReceipt:
        self.sent_bytes += pack.size_bytes
        self.drive.put_pack(pack)
        return PackReceipt(pack=pack.id, new_bytes=pack.size_bytes, quota_left_bytes=2**30)

    def plan(self, snapshot_id: str) -> ReadPlan:
        return self.drive.plan(snapshot_id)

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        return self.drive.packs[pack_id][start:end]

    read_again = read_pack
