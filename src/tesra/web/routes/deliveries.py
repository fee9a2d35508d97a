"""What nodes deliver beside facts: docs/spec/site-protocol.md."""

from fastapi import APIRouter, Request
from pydantic import ValidationError

from tesra.kit.errors import Invalid, TesraError
from tesra.kit.ids import AttemptId, SiteId
from tesra.training.logs import LogPiece
from tesra.training.metrics.service import MetricPiece
from tesra.web.context import Services, ServicesDep
from tesra.web.routes.site import SiteCaller
from tesra.wire.site import MAX_DELIVERY_BYTES, Delivery, DeliveryTaken, Piece, PieceTaken

router = APIRouter(prefix="/site/v1", tags=["site"])


class DeliveryInvalid(Invalid):
    """A delivery is a line that lists its pieces, each log and spool once, and their bytes."""


@router.post("/deliveries")
async def deliver(request: Request, services: ServicesDep, site: SiteCaller) -> DeliveryTaken:
    """Pieces of ranks' logs and nodes' metrics; answers how far each of these is held now.

    The first line is a ``Delivery`` as JSON, the bytes of its pieces follow in that order.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_DELIVERY_BYTES:
            raise DeliveryInvalid
    pieces = _pieces(bytes(body))
    held = await _logs(services, site, pieces) | await _metrics(services, site, pieces)
    return DeliveryTaken(pieces=[_taken(held[piece]) for piece, _ in pieces])


Given = list[tuple[Piece, bytes]]
Held = dict[Piece, int | TesraError]


def _pieces(body: bytes) -> Given:
    line, _, data = body.partition(b"\n")
    try:
        listed = Delivery.model_validate_json(line).pieces
    except ValidationError as error:
        raise DeliveryInvalid from error
    ends = sum(piece.size for piece in listed)
    if ends != len(data) or len({(one.attempt, one.kind, one.of) for one in listed}) < len(listed):
        raise DeliveryInvalid
    pieces, start = [], 0
    for piece in listed:
        pieces.append((piece, data[start : start + piece.size]))
        start += piece.size
    return pieces


async def _logs(services: Services, site: SiteId, given: Given) -> Held:
    logs = [(piece, data) for piece, data in given if piece.kind == "log"]
    if not logs:
        return {}
    held = await services.attempts.append_logs(
        site,
        [LogPiece(AttemptId(p.attempt), p.fence, p.of, p.offset, data) for p, data in logs],
    )
    return {piece: end for (piece, _), end in zip(logs, held, strict=True)}


async def _metrics(services: Services, site: SiteId, given: Given) -> Held:
    spools = [(piece, data) for piece, data in given if piece.kind == "metrics"]
    if not spools:
        return {}
    async with services.database.begin() as tx:
        held = await services.metrics.take(
            tx,
            site,
            [MetricPiece(AttemptId(p.attempt), p.fence, p.of, p.offset, d) for p, d in spools],
        )
    return {piece: end for (piece, _), end in zip(spools, held, strict=True)}


def _taken(held: int | TesraError) -> PieceTaken:
    return (
        PieceTaken(refused=held.code) if isinstance(held, TesraError) else PieceTaken(offset=held)
    )
