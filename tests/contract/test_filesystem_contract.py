"""fsspec's own contract suite, on the file system of the drive over a tree in memory."""

import os
from typing import Any

import pytest

from fakes.memory_drive import MemoryDrive

pytest.importorskip("fsspec")
from fsspec.tests import abstract  # only with fsspec

from tesra.sdk.filesystem import XingPanFileSystem  # only with fsspec


class _XingPan(abstract.AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    @pytest.fixture
    def fs(self) -> Any:
        fs = XingPanFileSystem("http://127.0.0.1:1", "none", skip_instance_cache=True)
        fs._clients[os.getpid()] = MemoryDrive()  # type: ignore[assignment]  # the same verbs
        return fs

    @pytest.fixture
    def fs_path(self) -> str:
        return "/contract"

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)


class TestContractOfCopy(abstract.AbstractCopyTests, _XingPan):  # type: ignore[misc]
    """fsspec's own tests."""


class TestContractOfGet(abstract.AbstractGetTests, _XingPan):  # type: ignore[misc]
    """fsspec's own tests."""


class TestContractOfPut(abstract.AbstractPutTests, _XingPan):  # type: ignore[misc]
    """fsspec's own tests."""


class TestContractOfOpen(abstract.AbstractOpenTests, _XingPan):  # type: ignore[misc]
    """fsspec's own tests."""


class TestContractOfPipe(abstract.AbstractPipeTests, _XingPan):  # type: ignore[misc]
    """fsspec's own tests."""
