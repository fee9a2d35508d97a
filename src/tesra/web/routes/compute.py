"""What is on offer."""

from fastapi import APIRouter

from tesra.kit.money import MICROS, format_cny, format_micros
from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.wire.common import Page
from tesra.wire.compute import DeviceClass, NodeDevices
from tesra.wire.training import Engine, WarmOn

router = APIRouter(prefix="/api/v1", tags=["compute"])


@router.get("/devices")
async def devices(services: ServicesDep, caller: Reader) -> Page[DeviceClass]:  # noqa: ARG001 - signed in
    """Device classes: rating in T, how many are free now, price of one device for an hour."""
    async with services.database.begin() as tx:
        offers = await services.compute.offers(tx)
        price_micros = await services.billing.current_price_micros(tx)
    return Page(
        items=[
            DeviceClass(
                device_class=offer.device_class,
                rating_t=format_micros(offer.rating_micro_t),
                total=offer.total,
                free=offer.free,
                largest_gang=offer.largest_gang,
                price_cny_per_hour=format_cny(offer.rating_micro_t * price_micros // MICROS, 6),
                nodes=[
                    NodeDevices(name=node.name, total=node.total, free=node.free)
                    for node in offer.nodes
                ],
            )
            for offer in offers
        ]
    )


@router.get("/engines")
async def engines(services: ServicesDep, caller: Reader) -> Page[Engine]:  # noqa: ARG001 - signed in
    """AI engines: versions, backends, and on which nodes their environments have been built."""
    async with services.database.begin() as tx:
        warm = await services.compute.warm_engines(tx)
    return Page(
        items=[
            Engine(
                name=engine.name,
                title=engine.title,
                versions=list(engine.versions),
                default=engine.default,
                backends=engine.backends,
                warm=[
                    WarmOn(node=node, **found.model_dump(exclude={"name"}))
                    for node, found in warm
                    if found.name == engine.name
                ],
            )
            for engine in services.training.engines.engines()
        ]
    )
