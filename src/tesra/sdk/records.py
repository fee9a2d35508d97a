"""Training records on the user's side: read from a file, checked, and run again."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tesra.crypto.signing import ALGORITHM, is_signed
from tesra.kit.canonical import canonical_json
from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.sdk.client import Client, LiveRun
from tesra.wire.record import SCHEMA, PublicKey, Recorded, SignedRecord

SCHEMA_FAMILY = SCHEMA.partition("/")[0] + "/"


class RecordUnreadable(Invalid):
    """This file is no training record."""


class RecordUntrue(Conflict):
    """This record is not as the network signed it."""


class SecretsMissing(Invalid):
    """The run had secrets, which no record holds."""


class CodeGone(NotFound):
    """The code of this record is not in this network."""


def read_record(path: Path) -> SignedRecord:
    """A record from its file; whether it is true is not looked at."""
    try:
        signed = SignedRecord.model_validate(json.loads(path.read_bytes()))
    except (ValueError, ValidationError) as error:
        raise RecordUnreadable(
            f"{path} is no training record.", way_out="`tesra record RUN -o FILE` makes one."
        ) from error
    schema = str(signed.record.get("schema", ""))
    if not schema.startswith(SCHEMA_FAMILY):
        raise RecordUnreadable(f"{path} has the format '{schema[:40]}', not '{SCHEMA}'.")
    return signed


def check_record(signed: SignedRecord, keys: Iterable[PublicKey]) -> None:
    """Raises ``RecordUntrue`` unless hash and signature are those of one of ``keys``."""
    try:
        text = canonical_json(signed.record)
    except ValueError as error:
        raise RecordUntrue("The record holds a number that none can hold.") from error
    way_out = "Get it again from its owner, or go on at your own risk with --unverified."
    if hashlib.sha256(text).hexdigest() != signed.sha256:
        raise RecordUntrue("The record has been changed: its hash does not fit.", way_out=way_out)
    signature = signed.signature
    public = next((key.public for key in keys if key.id == signature.key), None)
    if public is None or signature.algorithm != ALGORITHM:
        raise RecordUntrue(
            f"The record is signed with a key that this network does not know ({signature.key}):"
            " it comes from another one.",
            way_out="Check it there, or go on at your own risk with --unverified.",
        )
    try:
        value = bytes.fromhex(signature.value)
    except ValueError:
        value = b""
    if not is_signed(text, value, bytes.fromhex(public)):
        raise RecordUntrue("The record's signature is not this network's.", way_out=way_out)


def rerun(
    client: Client,
    signed: SignedRecord,
    *,
    params: dict[str, Any],
    secrets: dict[str, str],
    project: str | None = None,
) -> LiveRun:
    """The same run again: code, engine, packages, arguments, devices, and parameters at its start.

    ``params`` change or add some. ``project``: where the code is, if not where it was.
    """
    recorded = _understood(signed)
    start = recorded.start
    missing = [name for name in start.secrets if name not in secrets]
    if missing:
        raise SecretsMissing(
            f"The run had secrets, which no record holds: {', '.join(missing)}.",
            way_out=f"Give them: {' '.join(f'--secret {name}' for name in missing)}.",
        )
    place, snapshot = _code(client, recorded, project)
    wishes = start.model_dump() | {"params": start.params | params, "secrets": secrets}
    engine = f"{recorded.engine.name}=={recorded.engine.version}"
    return client.run(
        place,
        snapshot=snapshot,
        engine=engine,
        backend=recorded.engine.backend,
        environment_lock=recorded.environment_lock,
        rerun_of=recorded.run,
        **wishes,
    )


def _code(client: Client, recorded: Recorded, project: str | None) -> tuple[str, str]:
    """Project and snapshot that hold the record's code; raises ``CodeGone``."""
    code = recorded.code
    if project is None:
        try:
            client.project(code.project)
            next(client.files(code.snapshot), None)
        except NotFound as error:
            raise CodeGone(
                f"The code of this record (snapshot {code.snapshot} of '{code.project_name}') is"
                " not among your projects in this network.",
                way_out="Import the same code and name it: `tesra import DIR`, then"
                " `tesra rerun RECORD --project NAME`.",
            ) from error
        return code.project, code.snapshot
    found = client.project(project)
    if files_digest(client, found.snapshot) != code.files_sha256:
        raise CodeGone(
            f"The newest snapshot of '{found.name}' has other files than the record's code.",
            way_out="Import exactly what was run then, or start it anew with `tesra run`.",
        )
    return found.id, found.snapshot


def files_digest(client: Client, snapshot: str) -> str:
    """As the record has it: SHA-256 over ``kind size path`` of every file, sorted."""
    files = (file for file in client.files(snapshot) if file.kind != "dir")
    lines = sorted(f"{file.kind} {file.size_bytes} {file.path}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _understood(signed: SignedRecord) -> Recorded:
    try:
        return Recorded.model_validate(signed.record)
    except ValidationError as error:
        field = ".".join(str(step) for step in error.errors()[0]["loc"])
        raise RecordUnreadable(f"The record lacks what a run needs: {field}.") from error
