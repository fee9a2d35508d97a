"""My nodes: the machines that somebody shares, with what they have, hold and did lately.

Today nodes belong to the network's own site, so its operator is who has them.
"""

from fastapi import Response

from tesra.identity.model import Role
from tesra.web import operating
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member

router = PageRouter()


@router.get("/provider")
async def my_nodes(visit: Member) -> Response:
    """An operator's nodes and disks; for everybody else how a node is started."""
    services = visit.services
    if visit.member.role is not Role.OPERATOR:
        return visit.page("provider/none.html")
    async with services.database.begin() as tx:
        peers = await services.care.peers(tx)
        price_micros = await services.billing.current_price_micros(tx)
    return visit.page(
        "provider/nodes.html",
        machines=await operating.machines(services),
        peers=peers,
        price_micros=price_micros,
    )
