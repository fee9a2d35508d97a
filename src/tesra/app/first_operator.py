"""The first operator: made when a network starts for the first time, its token used ever after."""

from tesra.app.bootstrap import open_services, prepare_database
from tesra.db.engine import Tx
from tesra.identity.model import Role
from tesra.identity.service import IdentityService
from tesra.kit.errors import Unauthenticated
from tesra.kit.settings import Settings


async def prepare_operator(settings: Settings, token: str | None) -> tuple[str, str]:
    """Bring the tables up to date; answers the operator's name and a token that is valid."""
    await prepare_database(settings)
    services = await open_services(settings)
    try:
        async with services.database.begin() as tx:
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
