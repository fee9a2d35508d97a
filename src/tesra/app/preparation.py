"""What ``tesra up`` does in the database before a server serves from it."""

from tesra.app.bootstrap import LOCAL_SITE, open_services, prepare_database
from tesra.db.engine import Tx
from tesra.identity.model import Role
from tesra.identity.service import IdentityService
from tesra.kit.errors import Unauthenticated
from tesra.kit.settings import Settings


async def prepare(settings: Settings, token: str | None, *, site_runs: bool) -> tuple[str, str]:
    """Bring the tables up to date, and what they say of this machine's site.

    Answers the first operator's name and a token that is valid: ``token`` as long as it is.
    """
    await prepare_database(settings)
    services = await open_services(settings)
    try:
        async with services.database.begin() as tx:
            if not site_runs:
                await services.compute.sites.leave(tx, LOCAL_SITE)
            name = await _operator_of(services.identity, tx, token) if token else None
            if name is not None and token is not None:
                return name, token
            user, fresh = await services.identity.bootstrap_operator(tx)
            return user.name, fresh
    finally:
        await services.database.close()


async def _operator_of(identity: IdentityService, tx: Tx, token: str) -> str | None:
    """Whose token it is; None when it has expired, or is from a database that is no more."""
    try:
        principal = await identity.authenticate(tx, token)
    except Unauthenticated:
        return None
    return principal.name if principal.role is Role.OPERATOR else None
