"""What is done to files and folders: made, renamed, moved, copied, thrown away, brought back."""

from collections.abc import Sequence

from fastapi import Response
from fastapi.responses import StreamingResponse

from tesra.drive.archive import zip_of
from tesra.kit.errors import Invalid, TesraError
from tesra.storage.editing import Parts, parse_path, show_path
from tesra.storage.tree import Entry, Folder, check_name
from tesra.web.problems import status_of
from tesra.web.ranges import attachment
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.pages.drive import PathAsked, Told, folder_page
from tesra.web.ui.pages.drive_words import Row, crumbs_of, folder_url, row_of, shown_name
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit
from tesra.wire.files import Change, Changes, Copy, MakeFolder, Move, Remove, Restore

MOST = 1000
FOLDERS_SHOWN = 200
router = PageRouter()


class NothingChosen(Invalid):
    """Choose something first: tick the boxes in front of the names."""


class TooMuchChosen(Invalid):
    """That is too much at once: choose fewer, or their folder."""


class NameWanted(Invalid):
    """Type a name."""


class NameHasSlash(Invalid):
    """A name can't hold a slash: make the folder first, then go into it."""


@router.post("/drive/folder")
async def make_folder(visit: Member, form: Posted) -> Response:
    """A new folder in the one that is shown; then into it."""
    at = parse_path(form["at"])
    try:
        made = (*at, _name(form["name"]))
        await _change(visit, [MakeFolder(path=show_path(made))])
    except TesraError as error:
        return await folder_page(visit, at, told=Told(error=error, typed=form["name"]))
    return visit.redirect(folder_url(made))


@router.get("/drive/rename")
async def rename_page(visit: Member, path: PathAsked) -> Response:
    """Asks for the new name."""
    found = await visit.services.files.find(visit.member.user_id, path)
    return _rename(visit, row_of(found), found.path, name=found.path[-1] if found.path else "")


@router.post("/drive/rename")
async def rename(visit: Member, form: Posted) -> Response:
    """Another name in the same folder."""
    found = await visit.services.files.find(visit.member.user_id, form.raw("path"))
    try:
        target = (*found.path[:-1], _name(form["name"]))
        await _change(visit, [Move(path=show_path(found.path), to=show_path(target))])
    except TesraError as error:
        row = row_of(found)
        return _rename(visit, row, found.path, name=form["name"], error=error)
    said = visit.say("Renamed to %(name)s.", name=shown_name(target[-1]))
    return visit.redirect(folder_url(target[:-1]), flash=said)


@router.post("/drive/delete")
async def delete(visit: Member, form: Posted) -> Response:
    """Into the trash; the page after it offers to undo that."""
    at = parse_path(form.raw("at"))
    try:
        paths = _chosen(form)
        landed = await _change(visit, [Remove(path=path) for path in paths])
    except TesraError as error:
        return await folder_page(visit, at, told=Told(error=error))
    return visit.redirect(f"{folder_url(at)}?undo={landed - 1}&thrown={len(paths)}")


@router.post("/drive/undo")
async def undo(visit: Member, form: Posted) -> Response:
    """What one deletion threw away stands where it was."""
    owner, files = visit.member.user_id, visit.services.files
    version = int(form["version"]) if form["version"].isdigit() else 0
    last = await files.trash(owner, limit=MOST)
    mine = [one for one in last if one.version == version]
    for one in mine:
        await files.restore_from_trash(owner, one.id)
    said = visit.language.say_many("%(num)s item is back.", "%(num)s items are back.", len(mine))
    return visit.redirect(folder_url(parse_path(form.raw("at"))), flash=said)


@router.post("/drive/move")
async def move(visit: Member, form: Posted) -> Response:
    """Asks where to; with ``do`` it is done."""
    return await _carry(visit, form, copy=False)


@router.post("/drive/copy")
async def copy(visit: Member, form: Posted) -> Response:
    """The same for a copy, which takes no room."""
    return await _carry(visit, form, copy=True)


@router.post("/drive/download")
async def download(visit: Member, form: Posted) -> Response:
    """What was chosen as one zip, made while it is sent; a single file as it is."""
    at = parse_path(form.raw("at"))
    owner, files = visit.member.user_id, visit.services.files
    try:
        paths = _chosen(form)
        version = await files.head(owner)
        entries: list[Entry] = [
            (await files.find(owner, path, version=version.number)).entry for path in paths
        ]
    except TesraError as error:
        return await folder_page(visit, at, told=Told(error=error))
    reader = await visit.services.drive.reader(owner, version.epoch)
    name = entries[0].name if len(entries) == 1 else (at[-1] if at else "drive")
    headers = {"X-Content-Type-Options": "nosniff", **attachment(f"{name}.zip")}
    return StreamingResponse(zip_of(reader, entries), media_type="application/zip", headers=headers)


@router.post("/drive/restore")
async def restore(visit: Member, form: Posted) -> Response:
    """A path as it was in an earlier version; what stands there now stays as a version too."""
    path, number = form.raw("path"), form["version"]
    parts, owner = parse_path(path), visit.member.user_id
    wanted: list[Change] = []
    standing = await visit.services.browser.standing(owner, [path])
    if form.flag("replace") and parts in standing:
        wanted.append(Remove(path=path))
    version = int(number) if number.isdigit() and len(number) < 18 else 0
    wanted.append(Restore(path=path, version=max(1, version)))
    await _change(visit, wanted)
    back = parts if await _is_there(visit, path) else parts[:-1]
    said = visit.say("Restored as it was in version %(version)s.", version=version)
    return visit.redirect(folder_url(back), flash=said)


async def _carry(visit: Visit, form: Form, *, copy: bool) -> Response:
    at, error = parse_path(form.raw("at")), None
    try:
        paths = _chosen(form)
    except TesraError as nothing:
        return await folder_page(visit, at, told=Told(error=nothing))
    wanted = form.raw("into") if form["into"] else form.raw("to") or show_path(at)
    try:
        into = parse_path(wanted)
        if form.flag("do"):
            kind = Copy if copy else Move
            replace = form.flag("replace")
            targets = [show_path((*into, parse_path(path)[-1])) for path in paths]
            changes: list[Change] = [MakeFolder(path=show_path(into))] if into else []
            changes += [
                kind(path=path, to=target, replace=replace)
                for path, target in zip(paths, targets, strict=True)
            ]
            await _change(visit, changes)
            return visit.redirect(folder_url(into), flash=_carried(visit, len(paths), copy))
    except TesraError as refused:
        into, error = _or_root(wanted), refused
    return await _where_to(visit, at, paths, into, copy=copy, error=error)


async def _where_to(
    visit: Visit,
    at: Parts,
    paths: Sequence[str],
    into: Parts,
    *,
    copy: bool,
    error: TesraError | None,
) -> Response:
    owner, browser = visit.member.user_id, visit.services.browser
    try:
        folders = await browser.folders(owner, show_path(into), limit=FOLDERS_SHOWN + 1)
    except TesraError:  # a folder that is to be made
        folders = []
    return visit.page(
        "drive/carry.html",
        status=status_of(error) if error else 200,
        at=show_path(at),
        back=folder_url(at),
        paths=paths,
        names=[shown_name(parse_path(path)[-1]) for path in paths[:5]],
        into=show_path(into),
        above=show_path(into[:-1]) if into else None,
        crumbs=crumbs_of(into),
        folders=[row_of(one) for one in folders[:FOLDERS_SHOWN]],
        more=len(folders) > FOLDERS_SHOWN,
        copy=copy,
        error=visit.words(error) if error else None,
        in_the_way=error is not None and error.code == "something_there",
    )


async def _change(visit: Visit, wanted: Sequence[Change]) -> int:
    """The drive's version after these changes."""
    changes = Changes(changes=list(wanted))
    landed = await visit.services.files.change(visit.member.user_id, changes)
    return landed.version.number


async def _is_there(visit: Visit, path: str) -> bool:
    standing = await visit.services.browser.standing(visit.member.user_id, [path])
    return any(not isinstance(entry, Folder) for entry in standing.values())


def _chosen(form: Form) -> list[str]:
    paths = [show_path(parse_path(path)) for path in form.all_raw("path") if path]
    if not paths:
        raise NothingChosen
    if len(paths) > MOST - 1:
        raise TooMuchChosen
    return paths


def _name(typed: str) -> str:
    if not typed:
        raise NameWanted
    if "/" in typed:
        raise NameHasSlash
    return check_name(typed)


def _or_root(wanted: str) -> Parts:
    try:
        return parse_path(wanted)
    except TesraError:
        return ()


def _carried(visit: Visit, count: int, copy: bool) -> str:
    many = visit.language.say_many
    if copy:
        return many("%(num)s item copied.", "%(num)s items copied.", count)
    return many("%(num)s item moved.", "%(num)s items moved.", count)


def _rename(
    visit: Visit, row: Row, parts: Parts, *, name: str, error: TesraError | None = None
) -> Response:
    return visit.page(
        "drive/rename.html",
        status=status_of(error) if error else 200,
        row=row,
        back=folder_url(parts[:-1]),
        crumbs=crumbs_of(parts),
        name=name,
        error=visit.words(error) if error else None,
    )
