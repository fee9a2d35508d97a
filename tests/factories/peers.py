"""Storage peers for tests."""

from pathlib import Path

from tesra.crypto.requests import new_key
from tesra.security.authority import Authority
from tesra.storage.merkle import PackTree, TreeBuilder
from tesra.storage.swarm import PeerIdentity


def identity_of(name: str, authority: Path) -> PeerIdentity:
    """Who a peer is under the authority at a folder, which is made if it is not there."""
    own = new_key(name)
    signed = Authority(authority).sign_peer(name, own.request)
    return PeerIdentity(signed.certificate, own.key, signed.authority)


def tree_of(data: bytes, pack_id: str) -> PackTree:
    builder = TreeBuilder()
    builder.update(data)
    return builder.finish(pack_id)
