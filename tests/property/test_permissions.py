"""Whatever tokens are made from tokens, and whatever role their owner gets: no scope appears."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tesra.identity.model import Forbidden, Principal, Role
from tesra.identity.permissions import effective_scopes, grantable, require, scopes_of
from tesra.kit.ids import TokenId, UserId

SCOPES = st.frozensets(st.sampled_from(["read", "write", "operate"]))
ROLES = st.sampled_from(Role)


def principal(role: Role, scopes: frozenset[str]) -> Principal:
    return Principal(UserId("usr_1"), "ada", role, scopes, TokenId("tok_1"))


@given(ROLES, SCOPES)
def test_a_token_admits_no_more_than_its_owners_role(role: Role, scopes: frozenset[str]) -> None:
    assert effective_scopes(role, scopes) <= scopes & scopes_of(role)


@given(ROLES, SCOPES, SCOPES)
def test_a_grant_is_what_was_wanted_or_is_refused(
    role: Role, own: frozenset[str], wanted: frozenset[str]
) -> None:
    maker = principal(role, own)
    if wanted <= own:
        assert grantable(maker, wanted) == wanted
    else:
        with pytest.raises(Forbidden):
            grantable(maker, wanted)


@given(ROLES, SCOPES)
def test_operating_needs_both_the_scope_and_the_role(role: Role, scopes: frozenset[str]) -> None:
    allowed = role is Role.OPERATOR and "operate" in scopes
    try:
        require(principal(role, scopes), "operate")
    except Forbidden:
        assert not allowed
    else:
        assert allowed


class TokensOfOnePerson(RuleBasedStateMachine):
    """A person signs in, makes tokens from tokens, and changes role meanwhile."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.role = Role.USER
        self.was_operator = False
        self.stored: list[frozenset[str]] = []

    @rule(role=ROLES)
    def change_role(self, role: Role) -> None:
        self.role = role
        self.was_operator |= role is Role.OPERATOR

    @rule(target=tokens)
    def sign_in(self) -> frozenset[str]:
        self.stored.append(scopes_of(self.role))
        return self.stored[-1]

    @rule(target=tokens, parent=tokens, wanted=SCOPES)
    def make_token(self, parent: frozenset[str], wanted: frozenset[str]) -> frozenset[str]:
        maker = principal(self.role, effective_scopes(self.role, parent))
        try:
            granted = grantable(maker, wanted)
        except Forbidden:
            assert not wanted <= maker.scopes
            return frozenset()
        assert granted <= parent
        self.stored.append(granted)
        return granted

    @invariant()
    def only_operators_operate(self) -> None:
        for scopes in self.stored:
            if self.role is not Role.OPERATOR:
                assert "operate" not in effective_scopes(self.role, scopes)
            assert self.was_operator or "operate" not in scopes


TestTokensOfOnePerson = TokensOfOnePerson.TestCase
