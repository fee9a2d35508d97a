"""Registering, signing in and out."""

from fastapi import Response

from tesra.kit.errors import TesraError
from tesra.web.problems import status_of
from tesra.web.session import begin_session, end_session, session_of
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Visit, Visitor, safe_next

router = PageRouter()


@router.get("/sign-in")
async def sign_in_page(visit: Visitor, next: str = "/") -> Response:  # noqa: A002 - the query's name
    target = safe_next(next)
    return visit.redirect(target) if visit.who else _sign_in(visit, target)


@router.post("/sign-in")
async def sign_in(visit: Visitor, form: Posted) -> Response:
    """With name and password, or with a token (an operator has no password)."""
    target = safe_next(form["next"])
    try:
        token = await (_by_token if form["token"] else _by_password)(visit, form)
    except TesraError as error:
        return _sign_in(visit, target, error=error, name=form["name"])
    answer = visit.redirect(target)
    begin_session(visit.request, answer, token)
    return answer


@router.get("/register")
async def register_page(visit: Visitor, next: str = "/") -> Response:  # noqa: A002 - the query's name
    target = safe_next(next)
    return visit.redirect(target) if visit.who else _register(visit, target)


@router.post("/register")
async def register(visit: Visitor, form: Posted) -> Response:
    """A new account, signed in at once."""
    services, target = visit.services, safe_next(form["next"])
    try:
        password_hash = await services.identity.prepare_password(form.raw("password"))
        async with services.database.begin() as tx:
            _, issued = await services.identity.register(
                tx, form["name"], password_hash=password_hash
            )
    except TesraError as error:
        return _register(visit, target, error=error, name=form["name"])
    answer = visit.redirect(
        target, flash=visit.say("Welcome to Tesra, %(name)s.", name=form["name"])
    )
    begin_session(visit.request, answer, issued.text)
    return answer


@router.post("/sign-out")
async def sign_out(visit: Visitor, form: Posted) -> Response:  # noqa: ARG001 - proves the request
    """Ends this browser's session, on the server too."""
    if visit.who is not None:
        async with visit.services.database.begin() as tx:
            await visit.services.identity.revoke(tx, visit.who.user_id, token_id=visit.who.token_id)
    answer = visit.redirect("/", flash=visit.say("You have signed out."))
    if session_of(visit.request):
        end_session(answer)
    return answer


async def _by_password(visit: Visit, form: Form) -> str:
    services, request = visit.services, visit.request
    address = request.client.host if request.client else "unknown"
    async with services.database.begin() as tx:
        attempt = await services.identity.admit_login(tx, form["name"], address=address)
    new_hash = await services.identity.check_password(attempt, form.raw("password"))
    async with services.database.begin() as tx:
        _, issued = await services.identity.finish_login(tx, attempt, new_hash=new_hash)
    return issued.text


async def _by_token(visit: Visit, form: Form) -> str:
    async with visit.services.database.begin() as tx:
        await visit.services.identity.authenticate(tx, form["token"])
    return form["token"]


def _sign_in(
    visit: Visit, target: str, *, error: TesraError | None = None, name: str = ""
) -> Response:
    return _account_page(visit, "base/sign_in.html", target, error, name)


def _register(
    visit: Visit, target: str, *, error: TesraError | None = None, name: str = ""
) -> Response:
    return _account_page(visit, "base/register.html", target, error, name)


def _account_page(
    visit: Visit, template: str, target: str, error: TesraError | None, name: str
) -> Response:
    return visit.page(
        template,
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        name=name,
        next=target,
    )
