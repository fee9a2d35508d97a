"""The training record as one file, and the keys that its signature is checked with."""

from typing import Any

from tesra.wire.common import Answer
from tesra.wire.data import RunData
from tesra.wire.parameters import ParameterRange
from tesra.wire.training import Launch

SCHEMA = "tesra-record/1"


class Signature(Answer):
    """Over the canonical JSON of ``record``; ``value`` and keys are hex."""

    algorithm: str
    key: str
    value: str


class SignedRecord(Answer):
    """``sha256``: of the canonical JSON of ``record``, whose ``schema`` names the format."""

    record: dict[str, Any]
    sha256: str
    signature: Signature


class PublicKey(Answer):
    id: str
    algorithm: str
    public: str


class PublicKeys(Answer):
    """What this network signs its records with."""

    keys: list[PublicKey]


class RecordedCode(Answer):
    project: str
    project_name: str
    snapshot: str
    root: str
    files_sha256: str


class RecordedEngine(Answer):
    name: str
    version: str
    backend: str | None = None


class RecordedStart(Answer):
    """All that a run was started with; of secrets the names alone."""

    entry: str | list[str]
    args: list[str]
    output: str
    devices: int
    device_class: str | None = None
    launch: Launch
    params: dict[str, str | int | float | bool]
    param_format: str
    env: dict[str, str]
    secrets: list[str]
    packages: list[str]
    ranges: dict[str, ParameterRange] = {}
    data: list[RunData] = []


class Recorded(Answer):
    """The part of a record that repeats its run."""

    run: str
    code: RecordedCode
    engine: RecordedEngine
    environment_lock: str | None = None
    start: RecordedStart
