"""``tesra drive preview | find``: look into the drive without downloading."""

from typing import TYPE_CHECKING, Annotated

import typer

from tesra.cli import words
from tesra.cli.addresses import anywhere, shown
from tesra.cli.context import Session, connected

if TYPE_CHECKING:
    from tesra.wire.previews import Preview

_EXAMPLE = "Example: tesra drive "

File = Annotated[str, typer.Argument(metavar="xingpan:/PATH", help="A file in your drive.")]
Version = Annotated[
    int | None, typer.Option("--version", help="As it was in this version; see `tesra drive log`.")
]


def extend(group: typer.Typer) -> None:
    """Hang the commands on ``tesra drive``."""
    for name, command, example in (
        ("preview", preview, "preview xingpan:/models/best.safetensors"),
        ("find", find, "find 手写数字 xingpan:/datasets"),
        ("search", find, "search best.pt"),
    ):
        group.command(name, epilog=_EXAMPLE + example)(command)


@connected
def preview(session: Session, path: File, *, version: Version = None) -> None:
    """Show the beginning of a text or table, what an image is, which tensors a model has."""
    seen = session.client.drive_preview(anywhere(path), version=version)
    session.out.answer(seen, lambda: _show(session, seen))


@connected
def find(
    session: Session,
    query: Annotated[
        str, typer.Argument(metavar="NAME", help="Parts of a name, with blanks between.")
    ],
    path: Annotated[
        str,
        typer.Argument(
            metavar="[xingpan:/PATH]",
            help="Below this folder; xingpan:NAME: searches a private one.",
        ),
    ] = "xingpan:/",
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
) -> None:
    """Search by name; case and the width of characters make no difference."""
    found = list(session.client.drive_search(query, anywhere(path), limit=limit))
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Path", "Size"],
            [
                [
                    shown(one.path) + "/" * (one.kind == "dir"),
                    "-" if one.kind == "dir" else words.size(one.size_bytes),
                ]
                for one in found
            ],
            right=["Size"],
            empty="Nothing is named so.",
        ),
    )
    if len(found) == limit:
        session.out.aside(f"Those are the first {limit}; --limit shows more.")


def _show(session: Session, seen: "Preview") -> None:
    out = session.out
    facts = [("File", seen.path), ("Size", words.size(seen.size_bytes)), ("Kind", seen.kind)]
    if seen.image is not None:
        image = seen.image
        facts.append(("Image", f"{image.format}, {image.width} x {image.height}"))
    if seen.tensors is not None:
        facts.append(("Tensors", f"{seen.tensors.count:,}"))
        facts.append(("Parameters", f"{seen.tensors.parameters:,}"))
    if seen.encoding is not None:
        facts.append(("Encoding", seen.encoding))
    out.facts(facts)
    if seen.text is not None:
        out.say(_harmless(seen.text))
    if seen.table is not None:
        heads = [f"{_harmless(one.name)} ({one.type})" for one in seen.table.columns]
        rows = [
            [_harmless(cell).replace("\n", " ") for cell in row] + [""] * (len(heads) - len(row))
            for row in seen.table.rows
        ]
        out.table(heads, rows, empty="No rows.")
    if seen.tensors is not None:
        out.table(
            ["Tensor", "Type", "Shape", "Size"],
            [
                [
                    _harmless(one.name),
                    one.dtype,
                    " x ".join(map(str, one.shape)),
                    words.size(one.size_bytes),
                ]
                for one in seen.tensors.tensors
            ],
            right=["Size"],
            empty="No tensors.",
        )
    if seen.truncated:
        out.aside("That is the beginning; `tesra drive get` brings all of it.")


def _harmless(text: str) -> str:
    """Without what would steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
