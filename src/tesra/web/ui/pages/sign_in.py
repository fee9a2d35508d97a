"""Registering, signing in (in two steps where there is a second factor), signing out."""

from urllib.parse import quote

from fastapi import Response

from tesra.identity.model import IssuedToken, TokenKind
from tesra.kit.errors import TesraError
from tesra.kit.ids import UserId
from tesra.web import half_sign_in, proving
from tesra.web.half_sign_in import HALF_COOKIE, HALF_LIFETIME_S, HalfDone, SignInTooOld
from tesra.web.problems import status_of
from tesra.web.session import begin_session, end_session, session_of
from tesra.web.ui.forms import Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import LANGUAGE_COOKIE, THEME_COOKIE, Visit, Visitor, safe_next

router = PageRouter()

LENT_COOKIE = "tesra_lent"  # the session is a token that was made for something else: not ended


@router.get("/sign-in")
async def sign_in_page(visit: Visitor, next: str = "/") -> Response:  # noqa: A002 - the query's name
    target = safe_next(next)
    return visit.redirect(target) if visit.who else _account_page(visit, "sign_in", target)


@router.post("/sign-in")
async def sign_in(visit: Visitor, form: Posted) -> Response:
    """With name and password, or with a token (an operator has no password)."""
    target = safe_next(form["next"])
    try:
        if form["token"]:
            return await _by_token(visit, form["token"], target)
        found = await half_sign_in.begin(
            visit.services,
            proving.origin_of(visit.request),
            visit.secret,
            name=form["name"],
            password=form.raw("password"),
        )
    except TesraError as error:
        return _account_page(visit, "sign_in", target, error=error, name=form["name"])
    if isinstance(found, HalfDone):
        visit.remember(HALF_COOKIE, found.sealed, max_age_s=HALF_LIFETIME_S)
        return visit.redirect(_url("/sign-in/code", target))
    return await _begin(visit, found[0].id, found[1], target)


@router.get("/sign-in/code")
async def code_page(visit: Visitor, next: str = "/") -> Response:  # noqa: A002 - the query's name
    """The second step: the code of the app, or one from paper."""
    target = safe_next(next)
    if visit.who:
        return visit.redirect(target)
    try:
        name = half_sign_in.read(visit.services, visit.secret, _half(visit))
    except SignInTooOld as error:
        return visit.redirect(_url("/sign-in", target), flash=visit.words(error), kind="warning")
    return _account_page(visit, "code", target, name=name)


@router.post("/sign-in/code")
async def give_code(visit: Visitor, form: Posted) -> Response:
    target, sealed = safe_next(form["next"]), _half(visit)
    try:
        name = half_sign_in.read(visit.services, visit.secret, sealed)
        user, issued = await half_sign_in.finish(
            visit.services,
            proving.origin_of(visit.request),
            visit.secret,
            sealed=sealed,
            code=form["code"],
        )
    except SignInTooOld as error:
        return visit.redirect(_url("/sign-in", target), flash=visit.words(error), kind="warning")
    except TesraError as error:
        return _account_page(visit, "code", target, error=error, name=name)
    visit.remember(HALF_COOKIE, "", max_age_s=0)
    return await _begin(visit, user.id, issued, target)


@router.get("/register")
async def register_page(visit: Visitor, next: str = "/") -> Response:  # noqa: A002 - the query's name
    target = safe_next(next)
    return visit.redirect(target) if visit.who else _account_page(visit, "register", target)


@router.post("/register")
async def register(visit: Visitor, form: Posted) -> Response:
    """A new account, signed in at once, in the language that it was made in."""
    target = safe_next(form["next"])
    try:
        user, issued = await proving.sign_up(
            visit.services,
            proving.origin_of(visit.request),
            name=form["name"],
            password=form.raw("password"),
        )
    except TesraError as error:
        return _account_page(visit, "register", target, error=error, name=form["name"])
    answer = visit.redirect(target, flash=visit.say("Welcome to Tesra, %(name)s.", name=user.name))
    begin_session(visit.request, answer, issued.text)
    return answer


@router.post("/sign-out")
async def sign_out(visit: Visitor, form: Posted) -> Response:  # noqa: ARG001 - proves the request
    """Ends this browser's session, on the server too; a token that was lent to it lives on."""
    lent = visit.request.cookies.get(LENT_COOKIE) == "1"
    if visit.who is not None and visit.who.kind is TokenKind.SESSION and not lent:
        async with visit.services.database.begin() as tx:
            await visit.services.identity.revoke(tx, visit.who.user_id, token_id=visit.who.token_id)
    visit.remember(LENT_COOKIE, "", max_age_s=0)
    answer = visit.redirect("/", flash=visit.say("You have signed out."))
    if session_of(visit.request):
        end_session(answer)
    return answer


async def _begin(visit: Visit, user: UserId, issued: IssuedToken, target: str) -> Response:
    """The session, with the language and the colours that its owner has chosen anywhere."""
    async with visit.services.database.begin() as tx:
        wanted = await visit.services.account.preferences(tx, user)
    if wanted.locale is not None:
        visit.remember(LANGUAGE_COOKIE, wanted.locale.value)
    visit.remember(THEME_COOKIE, wanted.theme.value)
    visit.remember(LENT_COOKIE, "", max_age_s=0)
    answer = visit.redirect(target)
    begin_session(visit.request, answer, issued.text)
    return answer


async def _by_token(visit: Visit, token: str, target: str) -> Response:
    async with visit.services.database.begin() as tx:
        await visit.services.identity.authenticate(tx, token)
    visit.remember(LENT_COOKIE, "1")
    answer = visit.redirect(target)
    begin_session(visit.request, answer, token)
    return answer


def _half(visit: Visit) -> str | None:
    return visit.request.cookies.get(HALF_COOKIE)


def _url(path: str, target: str) -> str:
    return path if target == "/" else f"{path}?next={quote(target, safe='')}"


_PAGES = {
    "sign_in": "base/sign_in.html",
    "code": "base/sign_in_code.html",
    "register": "base/register.html",
}


def _account_page(
    visit: Visit, which: str, target: str, *, error: TesraError | None = None, name: str = ""
) -> Response:
    return visit.page(
        _PAGES[which],
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        name=name,
        next=target,
    )
