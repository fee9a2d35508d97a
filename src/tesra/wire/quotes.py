"""What a run would cost, before it is started."""

from pydantic import Field

from tesra.wire.common import Answer, Wire
from tesra.wire.training import Launch


class QuoteRequest(Wire):
    """The part of a run's request that decides its price."""

    devices: int = 1
    device_class: str | None = Field(default=None, max_length=128)
    launch: Launch = "gang"
    max_cost_cny: str | None = Field(default=None, max_length=32)
    max_time_s: int | None = Field(default=None, ge=1, le=366 * 86_400)


class Quote(Answer):
    """At today's price, on the weakest and on the strongest devices that the run may get.

    ``at_most_cny``: the bill cannot be more, because of the caps. ``stops_after_s``: when the caps
    end it, at the soonest. ``covered_s``: how long vouchers and wallet last at the higher rate.
    ``place``: where it would stand among those that wait; null when it would start at once.
    ``line`` says the most of it, ``lines`` all.
    """

    devices: int
    device_class: str | None
    price_cny_per_th: str
    rating_t_low: str
    rating_t_high: str
    cny_per_hour_low: str
    cny_per_hour_high: str
    free_devices: int
    total_devices: int
    place: int | None
    at_most_cny: str | None
    stops_after_s: int | None
    vouchers_cny: str
    wallet_cny: str
    covered_s: int | None
    line: str
    lines: list[str]
