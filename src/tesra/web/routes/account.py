"""Your own account: second factor, sessions, password, preferences; the operator's help with it."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from tesra.identity import model
from tesra.identity.account_events import AccountEvent
from tesra.web.auth import Operator, Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.pages import PageAsk, page_of
from tesra.web.proving import origin_of, proven
from tesra.wire import identity as wire
from tesra.wire.common import Page

router = APIRouter(prefix="/api/v1/me", tags=["account"])
operator_router = APIRouter(prefix="/api/v1/operator/users", tags=["operator"])

UserName = Annotated[str, Path(max_length=64)]


@router.get("/second-factor")
async def second_factor(caller: Reader, services: ServicesDep) -> wire.SecondFactor:
    """Whether a second factor is on, and how many recovery codes are left."""
    async with services.database.begin() as tx:
        state = await services.factors.state(tx, caller.user_id)
    return wire.SecondFactor(
        on=state.on,
        begun=state.begun,
        since=state.since,
        recovery_codes_left=state.recovery_codes_left,
    )


@router.post("/second-factor/begin")
async def begin_second_factor(
    body: wire.Proof, request: Request, caller: Writer, services: ServicesDep
) -> wire.Enrolment:
    """A fresh secret for an authenticator app. It is on when a code of it was confirmed."""
    async with proven(
        services, caller, origin_of(request), password=body.password, code=body.code
    ) as tx:
        made = await services.factors.begin(tx, caller)
    return wire.Enrolment(secret=made.secret, uri=made.uri)


@router.post("/second-factor/confirm")
async def confirm_second_factor(
    body: wire.Confirmation, caller: Writer, services: ServicesDep
) -> wire.RecoveryCodes:
    """Turns the second factor on with its first code; the recovery codes are shown this once."""
    async with services.database.begin() as tx:
        codes = await services.factors.confirm(tx, caller, body.code)
    return wire.RecoveryCodes(recovery_codes=codes)


@router.post("/second-factor/off", status_code=204)
async def second_factor_off(
    body: wire.Proof, request: Request, caller: Writer, services: ServicesDep
) -> Response:
    """Turns the second factor off, with the password and a code."""
    async with proven(
        services, caller, origin_of(request), password=body.password, code=body.code
    ) as tx:
        await services.factors.turn_off(tx, caller)
    return Response(status_code=204)


@router.post("/second-factor/recovery-codes")
async def renew_recovery_codes(
    body: wire.Proof, request: Request, caller: Writer, services: ServicesDep
) -> wire.RecoveryCodes:
    """Ten new recovery codes; all before stop working."""
    async with proven(
        services, caller, origin_of(request), password=body.password, code=body.code
    ) as tx:
        codes = await services.factors.renew_codes(tx, caller)
    return wire.RecoveryCodes(recovery_codes=codes)


@router.get("/sessions")
async def sessions(caller: Reader, services: ServicesDep, ask: PageAsk) -> Page[wire.ActiveSession]:
    """Where you are signed in, newest first."""
    async with services.database.begin() as tx:
        found = await services.account.sessions(
            tx, caller.user_id, after=ask.after, limit=ask.limit + 1
        )
    return page_of([_session(one, caller) for one in found], ask.limit)


@router.delete("/sessions/{session_id}", status_code=204)
async def revoke_session(
    session_id: Annotated[str, Path(max_length=64)], caller: Writer, services: ServicesDep
) -> Response:
    """Ends one of your sessions at once."""
    async with services.database.begin() as tx:
        await services.account.revoke_session(tx, caller.user_id, session_id=session_id)
    return Response(status_code=204)


@router.post("/sessions/revoke-others")
async def revoke_other_sessions(caller: Writer, services: ServicesDep) -> wire.Revoked:
    """Ends all your sessions but the one that this call is made with; API tokens go on."""
    async with services.database.begin() as tx:
        return wire.Revoked(revoked=await services.account.revoke_other_sessions(tx, caller))


@router.post("/password")
async def change_password(
    body: wire.PasswordChange, request: Request, caller: Writer, services: ServicesDep
) -> wire.Revoked:
    """Changes the password and ends all your other sessions."""
    new_hash = await services.identity.prepare_password(body.new_password)
    async with proven(
        services, caller, origin_of(request), password=body.old_password, code=body.code
    ) as tx:
        ended = await services.account.change_password(tx, caller, new_hash=new_hash)
    return wire.Revoked(revoked=ended)


@router.get("/preferences")
async def preferences(caller: Reader, services: ServicesDep) -> wire.Preferences:
    """Your language and colours of pages."""
    async with services.database.begin() as tx:
        return _preferences(await services.account.preferences(tx, caller.user_id))


@router.patch("/preferences")
async def change_preferences(
    body: wire.PreferencesChange, caller: Writer, services: ServicesDep
) -> wire.Preferences:
    """Changes what is given; a locale of null goes back to what the browser says."""
    changes = body.model_dump(exclude_unset=True)
    async with services.database.begin() as tx:
        changed = await services.account.change_preferences(tx, caller.user_id, changes)
    return _preferences(changed)


@router.get("/events")
async def events(caller: Reader, services: ServicesDep, ask: PageAsk) -> Page[wire.AccountEvent]:
    """What happened to your password and second factor, newest first."""
    async with services.database.begin() as tx:
        found = await services.account.events(
            tx, caller.user_id, after=ask.after, limit=ask.limit + 1
        )
    return page_of([_event(one) for one in found], ask.limit)


@operator_router.post("/{user}/second-factor/off", status_code=204)
async def second_factor_off_for(
    user: UserName, body: wire.FactorOffRequest, caller: Operator, services: ServicesDep
) -> Response:
    """Turns off the second factor of who lost the device; the note stays in the account's log."""
    async with services.database.begin() as tx:
        found = await services.identity.user_by_name(tx, user)
        await services.factors.turn_off_for(tx, caller, found, note=body.note)
    return Response(status_code=204)


@operator_router.get("/{user}/events")
async def events_of(
    user: UserName, _: Operator, services: ServicesDep, ask: PageAsk
) -> Page[wire.AccountEvent]:
    """What happened to a user's password and second factor, newest first."""
    async with services.database.begin() as tx:
        owner = await services.identity.user_by_name(tx, user)
        found = await services.account.events(tx, owner.id, after=ask.after, limit=ask.limit + 1)
    return page_of([_event(one) for one in found], ask.limit)


def _session(session: model.Token, caller: model.Principal) -> wire.ActiveSession:
    return wire.ActiveSession(
        id=session.id,
        begun_at=session.created_at,
        last_used_at=session.last_used_at,
        expires_at=session.expires_at,
        user_agent=session.user_agent,
        address=session.address,
        current=session.id == caller.token_id,
    )


def _preferences(found: model.Preferences) -> wire.Preferences:
    return wire.Preferences.model_validate({"locale": found.locale, "theme": found.theme})


def _event(event: AccountEvent) -> wire.AccountEvent:
    return wire.AccountEvent(
        id=event.id, kind=event.kind.value, actor=event.actor, note=event.note, at=event.at
    )
