"""What a user writes on a run to find it again: tags and a note."""

from collections.abc import Iterable, Sequence

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from tesra.db.engine import Tx
from tesra.kit.ids import RunId, UserId
from tesra.training.model import RunFilter
from tesra.training.tables import runs
from tesra.wire.training import RunLabels

MOST_TAGS_LISTED = 200


def clean_tags(tags: Iterable[str]) -> list[str]:
    """Each once, in the order given, without spaces around."""
    return list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))


def labelled(kind: RunFilter) -> ColumnElement[bool]:
    """Runs that have the tag, and the text somewhere in what names them."""
    wanted: list[ColumnElement[bool]] = [runs.c.id.is_not(None)]
    if kind.tag:
        wanted.append(runs.c.tags.contains([kind.tag]))
    if kind.text:
        places = (
            runs.c.id,
            runs.c.project_name,
            runs.c.note,
            func.array_to_string(runs.c.tags, " "),
            runs.c.engine_spec["name"].astext,
        )
        wanted.append(or_(*(place.icontains(kind.text, autoescape=True) for place in places)))
    return and_(*wanted)


async def write_labels(tx: Tx, run: RunId, labels: RunLabels) -> None:
    """Change what is given; the caller has checked whose run it is."""
    values: dict[str, object] = {}
    if labels.tags is not None:
        values["tags"] = clean_tags(labels.tags)
    if labels.note is not None:
        values["note"] = labels.note.strip()
    if values:
        await tx.execute(update(runs).where(runs.c.id == run).values(values))


async def tags_of(tx: Tx, owner: UserId) -> Sequence[str]:
    """The tags on the owner's runs, by name."""
    tag = func.unnest(runs.c.tags).label("tag")
    own = select(tag).where(runs.c.owner == owner).distinct().subquery()
    return (
        (await tx.execute(select(own.c.tag).order_by(own.c.tag).limit(MOST_TAGS_LISTED)))
        .scalars()
        .all()
    )
