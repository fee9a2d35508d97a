"""How the drive is kept: ``tesra drive health | audit | replicas | peers | drain | revoke``, and ``tesra alarms``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import words
from tesra.cli.addresses import anywhere
from tesra.cli.context import Session, connected
from tesra.cli.output import Output

if TYPE_CHECKING:
    from tesra.wire.storage import AuditStand

PANEL = "Drive"

RemotePath = Annotated[str, typer.Argument(metavar="xingpan:/PATH", help="A path in your drive.")]


def register(app: typer.Typer) -> None:
    app.command("alarms", rich_help_panel=PANEL, epilog="Example: tesra alarms --json")(alarms)


def extend(group: typer.Typer) -> None:
    """Hang the commands on ``tesra drive``."""
    for name, command, example in (
        ("health", health, "health xingpan:/models"),
        ("audit", audit, "audit --now"),
        ("gc", gc, "gc --dry-run"),
        ("replicas", replicas, "replicas 4"),
        ("peers", peers, "peers"),
        ("drain", drain, "drain peer-3"),
        ("revoke", revoke, "revoke peer-3"),
    ):
        group.command(name, epilog=f"Example: tesra drive {example}")(command)


@connected
def health(session: Session, path: RemotePath = "xingpan:/") -> None:
    """How many good copies there are, on how many machines, and when that was last proven."""
    found = session.client.drive_health(anywhere(path))

    def draw() -> None:
        session.out.table(
            ["File", "Copies", "Machines", "Last proven", "State"],
            [
                [
                    one.path,
                    f"{one.copies} (+{one.away} away)" if one.away else str(one.copies),
                    str(one.machines),
                    words.moment(one.last_proof) if one.last_proof else "not yet",
                    one.state,
                ]
                for one in found.files
            ],
            right=["Copies", "Machines"],
            empty="Nothing here yet.",
        )
        if found.next is not None:
            session.out.say(f"... of {found.total} files; name a folder to see its own.")
        session.out.say(found.words[:1].upper() + found.words[1:] + ".")

    session.out.answer(found, draw)


@connected
def audit(
    session: Session,
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for the schedule: ask all holders now.")
    ] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", min=1, help="Wait so many seconds for the answers.")
    ] = 600,
) -> None:
    """Have every holder of your data prove its copies: random blocks, and all of it read through."""
    client = session.client
    if now:
        with session.out.waiting() as show:

            def report(stand: "AuditStand") -> None:
                show(f"{_answered(stand)} of {stand.asked} copies have answered")

            stand = client.drive_audit(timeout_s=timeout, report=report)
    else:
        stand = client.audit_stand()
    found = list(client.alarms())
    data = stand.model_dump(mode="json") | {
        "alarms": [one.model_dump(mode="json") for one in found]
    }
    session.out.answer(data, lambda: _show_audit(session.out, stand, len(found), now=now))


def _show_audit(out: Output, stand: "AuditStand", alarms: int, *, now: bool) -> None:
    if now:
        out.say(f"{_answered(stand)} of {stand.asked} copies answered.")
    if stand.open or stand.stalled:
        out.say(f"{stand.open} owe an answer, {stand.stalled} are overdue with it.")
    elif not now:
        out.say("No holder owes an answer; `tesra drive audit --now` asks all of them.")
    if alarms:
        there_are = "There is" if alarms == 1 else "There are"
        out.say(f"{there_are} {words.plural(alarms, 'alarm')}: tesra alarms")


def _answered(stand: "AuditStand") -> int:
    return max(0, stand.asked - stand.open - stand.stalled)


@connected
def gc(
    session: Session,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    keep_days: Annotated[
        float | None,
        typer.Option(
            "--keep-days",
            min=0,
            help="Keep so many days of history from now on. [90]",
            show_default=False,
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back what is marked and not deleted yet.")
    ] = False,
) -> None:
    """Make room: what no version, trash, project, output or checkpoint needs goes after a day's grace."""
    if undo:
        undone = session.client.drive_collect_undo()
        session.out.answer(
            undone, lambda: session.out.say(f"{undone.unmarked} packs are kept again.")
        )
        return
    found = session.client.drive_collect(keep_days=keep_days, dry_run=dry_run)

    def draw() -> None:
        size = words.size(found.found_bytes)
        session.out.say(
            f"{words.plural(found.found, 'pack')} ({size}) and"
            f" {words.plural(found.versions, 'old version')} are needed by nothing."
        )
        if dry_run:
            session.out.say("Nothing was changed.")
            return
        session.out.say(
            f"Deleted: {words.plural(found.swept, 'pack')} ({words.size(found.swept_bytes)})."
            f" Marked: {found.marked}, to be deleted {found.grace_hours:.0f} h after that;"
            " until then: tesra drive gc --undo"
        )

    session.out.answer(found, draw)


@connected
def peers(session: Session) -> None:
    """The storage peers of this network, and what each holds."""
    found = session.client.peers()
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Name", "State", "Site", "Machine", "Copies", "Stored", "Contributed"],
            [
                [
                    one.name,
                    f"{one.state}, draining" if one.draining else one.state,
                    one.site,
                    one.machine[:12],
                    str(one.copies),
                    words.size(one.used_bytes),
                    words.size(one.capacity_bytes),
                ]
                for one in found
            ],
            right=["Copies", "Stored", "Contributed"],
            empty="No storage peer has joined: `tesra up` starts three.",
        ),
    )


@connected
def drain(
    session: Session,
    peer: Annotated[str, typer.Argument(metavar="PEER", help="Its name, or its id.")],
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Do not empty it any more.")] = False,
) -> None:
    """Empty a peer before it leaves: its copies go to others first (operator)."""
    found = session.client.drain_peer(peer, undo=undo)
    said = "takes copies again" if undo else f"is being emptied of {found.copies} copies"
    session.out.answer(found, lambda: session.out.say(f"{found.name} {said}."))


@connected
def revoke(
    session: Session,
    peer: Annotated[str, typer.Argument(metavar="PEER", help="Its name, or its id.")],
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also when it has the only good copy of something."),
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let it in again.")] = False,
) -> None:
    """Shut a peer out at once: no other speaks to it any more, its copies do not count (operator)."""
    found = session.client.revoke_peer(peer, force=force, undo=undo)
    said = "may come in again" if undo else "is shut out; what it held is made anew"
    session.out.answer(found, lambda: session.out.say(f"{found.name} {said}."))


@connected
def replicas(
    session: Session,
    copies: Annotated[
        int | None,
        typer.Argument(
            metavar="[COPIES]", min=2, max=9, help="From now on; 2 to 9.", show_default=False
        ),
    ] = None,
) -> None:
    """How many copies there shall be of all that your drive holds, each at another peer."""
    found = session.client.drive_replicas(copies)

    def draw() -> None:
        peers = sum(
            peer.state != "revoked" and not peer.draining for peer in session.client.peers()
        )
        session.out.say(f"{found} copies of everything; how many there are: tesra drive health")
        if peers < found:
            session.out.say(
                f"There are {peers} storage peers: the rest is made when others join"
                " (tesra node start --disk)."
            )

    session.out.answer({"copies": found}, draw)


@connected
def alarms(
    session: Session,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that were seen to, too.")
    ] = False,
    acknowledge: Annotated[
        str | None,
        typer.Option(
            "--acknowledge",
            metavar="ID",
            help="Say that you have seen it, or with 'all' that you have seen every one (operator).",
        ),
    ] = None,
) -> None:
    """What is wrong with storage: tampered or lost copies, holders that stall, peers that are away."""
    if acknowledge == "all":
        unseen = list(session.client.alarms())
        all_seen = [session.client.acknowledge_alarm(one.id) for one in unseen]
        said = f"{words.plural(len(all_seen), 'alarm')} acknowledged."
        session.out.answer(all_seen, lambda: session.out.say(said))
        return
    if acknowledge is not None:
        seen = session.client.acknowledge_alarm(acknowledge)
        session.out.answer(seen, lambda: session.out.say(f"{seen.id} is acknowledged."))
        return
    found = list(session.client.alarms(everything=everything))
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Id", "Kind", "State", "Times", "Last", "What"],
            [
                [one.id, one.kind, one.state, str(one.times), words.moment(one.last_at), one.words]
                for one in found
            ],
            right=["Times"],
            empty="No alarms.",
        ),
    )
