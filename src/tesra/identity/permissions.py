"""What a role and a token admit. A token never admits more than its owner's role does now."""

from collections.abc import Iterable

from tesra.identity.model import OperatorOnly, Principal, Role, ScopeMissing

READ = "read"
WRITE = "write"
OPERATE = "operate"


def scopes_of(role: Role) -> frozenset[str]:
    """The most that a token of such a person can admit."""
    common = frozenset({READ, WRITE})
    return common | {OPERATE} if role is Role.OPERATOR else common


def effective_scopes(role: Role, token_scopes: Iterable[str]) -> frozenset[str]:
    """What a token admits now: what it was given, less what its owner's role has lost."""
    return scopes_of(role) & frozenset(token_scopes)


def require(caller: Principal, scope: str) -> None:
    """Raises ``ScopeMissing`` or ``OperatorOnly`` unless the caller may act with this scope."""
    if scope == OPERATE and caller.role is not Role.OPERATOR:
        raise OperatorOnly(way_out="Use the operator's token: `tesra up --detach --json` shows it.")
    if scope not in caller.scopes:
        raise ScopeMissing(
            f"This token does not admit '{scope}'.",
            way_out=f"Use a token with the scope '{scope}', or sign in again.",
        )


def grantable(maker: Principal, wanted: Iterable[str]) -> frozenset[str]:
    """The scopes of a token that ``maker`` makes: never more than the maker's own."""
    scopes = frozenset(wanted)
    excess = sorted(scopes - maker.scopes)
    if excess:
        raise ScopeMissing(
            f"A token can't admit more than the one that makes it: {', '.join(excess)}.",
            way_out="Sign in with your password, then make the token.",
        )
    return scopes
