"""Drives: receive packs, commit snapshots, name projects, read files.

What a snapshot refers to is on disk and indexed before the snapshot exists; every id that comes
from outside is looked up within its owner's drive. ``owner=None`` is for callers that have
checked the right themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

from tesra.crypto.aead import Sealer
from tesra.db.engine import Database, Tx
from tesra.drive import model
from tesra.drive.archive import zip_stream
from tesra.drive.model import MAIN_PURPOSE, Drive, Epoch, StoredProject, StoredSnapshot
from tesra.drive.pack_store import IncomingPack, PackStore
from tesra.drive.reading import EpochReader
from tesra.drive.repository import DriveRepository
from tesra.kit.ids import DriveId, EpochId, SnapshotId, UserId, new_id
from tesra.storage.format import KEY_BYTES, EpochKeys, new_keys
from tesra.storage.packing import MAX_PACK_BYTES, PackEntry
from tesra.storage.tree import File, Folder, Link
from tesra.wire.drive import (
    ChunkAt,
    FileEntry,
    PackReceipt,
    Project,
    Quota,
    ReadPlan,
    Snapshot,
    SnapshotCommit,
    UploadGrant,
)
