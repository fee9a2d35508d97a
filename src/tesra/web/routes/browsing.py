"""What is known of many paths at once, and the history of one: for those who look around."""

from fastapi import APIRouter

from tesra.drive.files.service import Found
from tesra.storage.editing import parse_path
from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.web.pages import PageAsk, encode_cursor, page_of
from tesra.web.routes.files import PathQuery, entry_of
from tesra.wire.common import Page
from tesra.wire.files import EntriesAsked, EntriesSeen, EntrySeen, PathStage

router = APIRouter(prefix="/api/v1/drive", tags=["drive"])


@router.post("/entries")
async def entries(asked: EntriesAsked, services: ServicesDep, caller: Reader) -> EntriesSeen:
    """Which of up to 1000 paths there are, and what is known of each. Changes nothing."""
    owner = caller.user_id
    standing = await services.browser.standing(owner, asked.paths)
    found = [Found(path, entry) for path, entry in standing.items()]
    known = {one.path: EntrySeen(**entry_of(one).model_dump()) for one in found}
    if asked.changed:
        for path, changed in (await services.browser.changed(owner, list(known))).items():
            known[path] = known[path].model_copy(
                update={"changed_at": changed.at, "changed_exact": changed.exact}
            )
    if asked.health:
        by_path = {seen.path: path for path, seen in known.items()}
        for well in await services.health.of_files(owner, found):
            told = well.model_dump(include={"copies", "machines", "last_proof", "state"})
            path = by_path[well.path]
            known[path] = known[path].model_copy(update=told)
    return EntriesSeen(entries=list(known.values()))


@router.get("/history")
async def history(
    services: ServicesDep, caller: Reader, ask: PageAsk, path: PathQuery
) -> Page[PathStage]:
    """What stood at a path, from now back: each stage with the version that began it."""
    parts = parse_path(path)
    found = await services.browser.history(
        caller.user_id, path, before=ask.number_after or None, limit=ask.limit
    )
    rows = [
        PathStage(
            version=stage.version.number,
            made_at=stage.version.made_at,
            words=stage.version.words,
            is_now=stage.is_now,
            entry=entry_of(Found(parts, stage.entry)) if stage.entry else None,
        )
        for stage in found.stages
    ]
    page = page_of(rows, ask.limit)
    return page.model_copy(update={"next": encode_cursor(str(found.next))}) if found.next else page
