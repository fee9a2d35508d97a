"""Sites as they enrol and speak: their machines, and how far their messages have been applied."""

from collections.abc import Sequence

from tesra.compute.model import ClassTable
from tesra.compute.repository import ComputeRepository
from tesra.db.engine import Tx
from tesra.kit.errors import Conflict
from tesra.kit.ids import NodeId, SiteId


class UnknownBoot(Conflict):
    """The server does not know this start of the site: enrol again."""


class SiteRegister:
    """Enrolment and sequence numbers of sites."""

    def __init__(self, classes: ClassTable, repository: ComputeRepository) -> None:
        self._classes = classes
        self._repository = repository

    async def enrol(
        self,
        tx: Tx,
        site: SiteId,
        boot: str,
        *,
        machines: list[dict[str, object]],
        cards: list[dict[str, object]],
    ) -> int:
        """Take the site's machines as they are now; answers the boot's high-water mark.

        A card's ``measured_micro_t`` becomes its rating, capped by the class table.
        """
        await self._repository.upsert_site(tx, site)
        rated = [
            {
                **card,
                "rating_micro_t": self._classes.rating(
                    str(card["device_class"]), _whole(card["measured_micro_t"])
                ),
            }
            for card in cards
        ]
        await self._repository.replace_machines(tx, site, machines, rated)
        return await self._repository.upsert_boot(tx, site, boot)

    async def note_engines(
        self, tx: Tx, site: SiteId, node: NodeId, *, engines: list[dict[str, object]]
    ) -> None:
        """What is warm on one of the site's nodes now; a node of another site is left alone."""
        await self._repository.set_engines(tx, site, node, engines)

    async def leave(self, tx: Tx, site: SiteId) -> None:
        """Nothing of the site runs: its devices are not on offer until it enrols again."""
        await self._repository.replace_machines(tx, site, [], [])

    async def take(self, tx: Tx, site: SiteId, boot: str, seqs: Sequence[int]) -> int:
        """Claim the messages ``seqs``: those above the answered number are new, exactly once.

        The boot's row stays locked until the commit. Raises ``UnknownBoot``, or ``Conflict`` when
        a message before them is missing.
        """
        high_water = await self._repository.high_water(tx, site, boot)
        if high_water is None:
            raise UnknownBoot
        expected = high_water
        for seq in seqs:
            if seq > expected + 1:
                raise Conflict(f"Message {seq} came before message {expected + 1}.")
            expected = max(expected, seq)
        if expected > high_water:
            await self._repository.set_high_water(tx, site, boot, expected)
        return high_water

    async def seen(self, tx: Tx, site: SiteId) -> None:
        """The site has just spoken."""
        await self._repository.touch_site(tx, site)

    async def assignments_version(self, tx: Tx, site: SiteId) -> int:
        """Grows with each change of what should run there; 0 for a site that never enrolled."""
        return await self._repository.assignments_version(tx, site) or 0

    async def assignments_changed(self, tx: Tx, site: SiteId) -> None:
        """What should run on the site has changed: its long poll answers."""
        await self._repository.bump_assignments(tx, site)


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a rating is a whole number of micro-T, not {value!r}")
    return value
