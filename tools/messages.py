"""Bring the catalogues of the pages up to date: what is new is added, what is gone is taken out.

Each folder of templates has a catalogue of its own, together with the page modules that render
from it; a text that ``base`` has is not repeated elsewhere. ``errors`` has what errors say,
``reasons`` the templates of what is said of causes, wherever in the package, and of input that is
refused.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po
from refused_input import refusals
from said_words import constants_of, marked, name_of, of_errors, walked

ROOT = Path(__file__).resolve().parent.parent
UI = ROOT / "src/tesra/web/ui"
TEMPLATES = UI / "templates"
LOCALES = {"zh_CN": UI / "locale/zh_CN"}
FUNCTIONS = {"say": None, "say_many": (1, 2), "_": None, "gettext": None, "ngettext": (1, 2)}
_RENDERED = re.compile(r'"([a-z_]+)/[a-z_]+\.html"')
PACKAGE = ROOT / "src/tesra"
NOT_THE_SERVERS = {"cli", "sdk", "app"}  # their errors are told on no page
ON_THE_CONSOLE = (  # what a server says to who starts it
    "db/embedded.py",
    "db/launcher.py",
    "db/migrate.py",
    "db/postmaster.py",
    "kit/settings.py",
)
REASONS_TOO = (  # whose errors become reasons, told with the commands that they name
    "node/",
    "storage/merkle.py",
    "training/projects.py",
)
NAMES_A_COMMAND = re.compile(r"\btesra [a-z…]|\bTESRA_|(?<![\w-])--[a-z]")
WHOLE = ("errors", "reasons")  # what is told is looked for in these alone
LIKE_ERRORS = {"Refused"}  # of the decoder of previews, which imports nothing of this package
Key = str | tuple[str, str]


def parts() -> dict[str, list[Key]]:
    """The texts of each part, ``base`` first; a text belongs to the first part that has it."""
    names = sorted({path.parent.name for path in TEMPLATES.glob("*/*.html")} - {"base"})
    seen: set[Key] = set()
    found: dict[str, list[Key]] = {}
    for part in ("base", *names, "errors", "reasons"):
        own: set[Key] = set() if part in WHOLE else seen
        texts = sorted(set(_texts(part)) - own, key=str)
        seen.update(texts)
        found[part] = texts
    return found


def update(folder: Path, locale: str) -> None:
    """Write each part's catalogue, keeping the translations it has."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {message.id: message for path in folder.glob("*.po") for message in _read(path, locale)}
    for part, texts in parts().items():
        catalogue = Catalog(locale=locale, fuzzy=False, header_comment="")
        for text in texts:
            old = known.get(text)
            catalogue.add(text, old.string if old else "")
        with (folder / f"{part}.po").open("wb") as file:
            write_po(file, catalogue, omit_header=False, width=100, sort_output=True)
        _without_dates(folder / f"{part}.po")


def missing(folder: Path, locale: str) -> list[str]:
    """The texts that have no translation, or whose catalogue is not up to date."""
    known = {
        message.id: message.string
        for path in folder.glob("*.po")
        for message in _read(path, locale)
    }
    return [
        f"{part}: {text}"
        for part, texts in parts().items()
        for text in texts
        if not _whole(known.get(text))
    ]


def _texts(part: str) -> Iterator[Key]:
    if part == "errors":
        yield from _error_kinds()
        return
    if part == "reasons":
        yield from _reasons()
        return
    for path in sorted((TEMPLATES / part).glob("*.html")):
        yield from _extract("jinja2.ext:babel_extract", path)
    for path in sorted(UI.rglob("*.py")):
        if part == _part_of(path):
            yield from _extract("python", path)


def _part_of(path: Path) -> str:
    """The part that a module's texts belong to: that of the templates it renders."""
    rendered = _RENDERED.findall(path.read_text(encoding="utf-8"))
    return rendered[0] if rendered else "base"


def _extract(method: str, path: Path) -> Iterator[Key]:
    options = {"extensions": "jinja2.ext.do", "trimmed": "false"} if path.suffix == ".html" else {}
    keywords = {**FUNCTIONS}
    for _, text, _, _ in extract_from_file(method, str(path), keywords=keywords, options=options):
        yield tuple(text) if isinstance(text, (list, tuple)) else text  # type: ignore[misc]


def _error_kinds() -> Iterator[str]:
    """The messages of all error kinds, the first line of their docstrings; then their cases.

    A way out that names a command is left out: pages give a link instead.
    """
    trees = _trees(leave_out=NOT_THE_SERVERS)
    kinds = _kinds(trees)
    for tree in trees.values():
        for node in walked(tree):
            said = ast.get_docstring(node) if isinstance(node, ast.ClassDef) else None
            if isinstance(node, ast.ClassDef) and node.name in kinds and said:
                yield said.strip().split("\n")[0]
    for words, is_way_out in _cases(trees, leave_out=(*ON_THE_CONSOLE, *REASONS_TOO)):
        if not is_way_out or not NAMES_A_COMMAND.search(words):
            yield words


def _reasons() -> Iterator[str]:
    """What is marked anywhere, what errors that become reasons say, and refusals of input."""
    trees = _trees(leave_out=set())
    for path, tree in trees.items():
        yield from marked(tree, str(path.relative_to(PACKAGE)))
    for words, _ in _cases(trees, only=REASONS_TOO):
        yield words
    yield from refusals()


def _cases(
    trees: dict[Path, ast.Module], *, only: tuple[str, ...] = ("",), leave_out: tuple[str, ...] = ()
) -> Iterator[tuple[str, bool]]:
    kinds = _kinds(trees) | LIKE_ERRORS
    named = {_module(path): constants_of(tree) for path, tree in trees.items()}
    for path, tree in trees.items():
        where = str(path.relative_to(PACKAGE))
        if where.startswith(only) and not (leave_out and where.startswith(leave_out)):
            yield from of_errors(tree, kinds, where, _known_in(tree, named) | named[_module(path)])


def _known_in(tree: ast.Module, named: dict[str, dict[str, ast.expr]]) -> dict[str, ast.expr]:
    """The named texts that a module takes from others."""
    return {
        name.asname or name.name: named[node.module][name.name]
        for node in walked(tree)
        if isinstance(node, ast.ImportFrom) and node.module in named
        for name in node.names
        if name.name in named[node.module]
    }


def _module(path: Path) -> str:
    return ".".join(("tesra", *path.relative_to(PACKAGE).with_suffix("").parts))


def _trees(*, leave_out: set[str]) -> dict[Path, ast.Module]:
    return {
        path: _parsed(path)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in leave_out
    }


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _kinds(trees: dict[Path, ast.Module]) -> set[str]:
    """The names of all error kinds."""
    classes = [
        node for tree in trees.values() for node in walked(tree) if isinstance(node, ast.ClassDef)
    ]
    kinds, grown = {"TesraError"}, True
    while grown:
        named = {c.name for c in classes if any(name_of(base) in kinds for base in c.bases)}
        grown = not named <= kinds
        kinds |= named
    return kinds


def _read(path: Path, locale: str) -> list[Message]:
    with path.open("rb") as file:
        return [message for message in read_po(file, locale=locale) if message.id]


def _whole(said: object) -> bool:
    return all(said) if isinstance(said, (tuple, list)) and said else bool(said)


def _without_dates(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    drop = (
        "Project-Id-Version",
        "Report-Msgid",
        "POT-",
        "PO-",
        "Last-",
        "Language-Team",
        "Generated",
    )
    path.write_text(
        "".join(x for x in lines if not x.startswith(tuple(f'"{name}' for name in drop))),
        encoding="utf-8",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="list what has no translation")
    if not parser.parse_args().check:
        for locale, folder in LOCALES.items():
            update(folder, locale)
    gaps = [gap for locale, folder in LOCALES.items() for gap in missing(folder, locale)]
    sys.stdout.write("".join(f"{gap}\n" for gap in gaps))
    return 1 if gaps else 0


if __name__ == "__main__":
    raise SystemExit(main())
