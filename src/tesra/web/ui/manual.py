"""The help: Markdown of ``docs/``, rendered for pages in both languages.

A page of the help is ``docs/help/<language>/<name>.md``; what it refers to beyond that
(``docs/*.md``, in English) is its reference. Links between them work on any host of the repository
and here: what is no page of either stays as text.
"""

import posixpath
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tesra.kit.errors import NotFound
from tesra.web.ui.bundled import bundled

INDEX = "README"
PLACE = "/help"
REFERENCE = "/help/reference/"
_TAGS = {
    *[
        "h1",
        "h2",
        "h3",
        "h4",
        "p",
        "ul",
        "ol",
        "li",
        "a",
        "code",
        "pre",
        "em",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "br",
        "hr",
    ]
}
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}(/[A-Za-z0-9-]{1,64})?")
_SCROLLING = {  # what may be wider than a phone is reached by the keyboard too
    "<table>": '<table class="table" tabindex="0">',
    "<pre>": '<pre tabindex="0">',
}
_NO_PAGES = {"help"}


class NoSuchHelp(NotFound):
    """There is no such page of the help."""


@dataclass(frozen=True, slots=True)
class Manual:
    """One page: its title, and its HTML, which is safe."""

    title: str
    html: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """A line of the table of contents."""

    name: str
    title: str


@cache
def chapters(tag: str) -> Sequence[Chapter]:
    """The pages of the help in the order of its index."""
    text = _read(f"help/{tag}/{INDEX}.md")
    found = re.findall(r"^- \[([^]]+)\]\(([a-z-]+)\.md\)", text, re.MULTILINE)
    return [Chapter(name, title) for title, name in found]


@cache
def help_page(tag: str, name: str) -> Manual:
    """A page of the help; raises ``NoSuchHelp``."""
    if name != INDEX and name not in {chapter.name for chapter in chapters(tag)}:
        raise NoSuchHelp
    return _rendered(f"help/{tag}/{name}.md")


@cache
def references() -> frozenset[str]:
    """The names of what the help refers to, such as ``TUNING`` and ``spec/ledger``."""
    root = bundled("docs")
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.md"))
    return frozenset(name for name in names if name.split("/")[0] not in _NO_PAGES)


@cache
def reference(name: str) -> Manual:
    """A page of the reference, in English; raises ``NoSuchHelp``."""
    if not _NAME.fullmatch(name) or name not in references():
        raise NoSuchHelp
    return _rendered(f"{name}.md")


def _read(path: str) -> str:
    return Path(bundled("docs"), path).read_text(encoding="utf-8")


def _rendered(path: str) -> Manual:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_read(path))
    title = _anchored(tokens)
    for token in tokens:
        if token.children:
            token.children = list(_linked(token.children, path))
    html = parser.renderer.render(tokens, parser.options, {})
    attributes = {"a": {"href"}, "code": {"class"}, **{f"h{n}": {"id"} for n in (1, 2, 3, 4)}}
    safe = nh3.clean(html, tags=_TAGS, attributes=attributes, link_rel=None)
    for tag, shown in _SCROLLING.items():
        safe = safe.replace(tag, shown)
    return Manual(title, safe)


def _anchored(tokens: list[Token]) -> str:
    """Gives headings their ids, and takes the first one out: it is the page's title."""
    title = ""
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        text = tokens[place + 1].content
        token.attrSet("id", slug(text))
        if token.tag == "h1" and not title:
            title = text.replace("`", "")
            first = place
    if title:
        del tokens[first : first + 3]
    return title


def slug(text: str) -> str:
    """A heading's id, as hosts of repositories make it."""
    kept = (c for c in text.lower() if c in " -_" or unicodedata.category(c)[0] in "LNM")
    return "".join(kept).strip().replace(" ", "-")


def _linked(children: list[Token], path: str) -> list[Token]:
    kept: list[Token] = []
    dropped = 0
    for token in children:
        if token.type == "link_open":
            href = site_link(str(token.attrGet("href") or ""), path)
            if href is None:
                dropped += 1
                continue
            token.attrSet("href", href)
        elif token.type == "link_close" and dropped:
            dropped -= 1
            continue
        kept.append(token)
    return kept


def site_link(href: str, path: str) -> str | None:
    """Where a link of the file ``path`` (below docs) leads on this site; None: nowhere."""
    if href.startswith(("https://", "http://", "#")):
        return href
    target, _, anchor = href.partition("#")
    if not target.endswith(".md"):
        return None
    behind = f"#{anchor}" if anchor else ""
    full = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    name = full.removesuffix(".md")
    if full.startswith("help/"):
        page = name.split("/")[-1]
        return (PLACE if page == INDEX else f"{PLACE}/{page}") + behind
    return f"{REFERENCE}{name}{behind}" if name in references() else None
