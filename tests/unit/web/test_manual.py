"""The help: the same pages in both languages, whose links lead somewhere, and nothing but text."""

import re
from pathlib import Path

import pytest

from tesra.web.ui import manual
from tesra.web.ui.language import TAGS

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = [(tag, path.stem) for tag in TAGS for path in sorted((DOCS / "help" / tag).glob("*.md"))]
NAMES = {chapter.name for chapter in manual.chapters("en")}


def test_both_languages_have_the_same_pages_in_the_same_order() -> None:
    english, chinese = (
        [chapter.name for chapter in manual.chapters(tag)] for tag in ("en", "zh-CN")
    )
    assert english == chinese
    assert {*english, manual.INDEX} == {path.stem for path in (DOCS / "help" / "en").glob("*.md")}
    assert {*english, manual.INDEX} == {
        path.stem for path in (DOCS / "help" / "zh-CN").glob("*.md")
    }


@pytest.mark.parametrize(("tag", "name"), PAGES)
def test_each_link_of_the_help_leads_to_a_file_and_to_a_page(tag: str, name: str) -> None:
    path = DOCS / "help" / tag / f"{name}.md"
    links = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        assert (path.parent / link.partition("#")[0]).is_file(), link
    page = manual.help_page(tag, name)
    assert page.title
    hrefs = re.findall(r'href="([^"]+)"', page.html)
    assert len(hrefs) == len(links)
    for href in hrefs:
        if href.startswith(manual.REFERENCE):
            assert manual.reference(href.removeprefix(manual.REFERENCE).partition("#")[0]).title
        else:
            assert href == manual.PLACE or href.removeprefix("/help/") in NAMES


def test_every_page_of_the_reference_can_be_shown() -> None:
    for name in manual.references():
        assert "<script" not in manual.reference(name).html


@pytest.mark.parametrize("name", ["../README", "help/en/training", "spec/../TUNING", "nowhere", ""])
def test_nothing_else_is_shown(name: str) -> None:
    with pytest.raises(manual.NoSuchHelp):
        manual.reference(name)
    with pytest.raises(manual.NoSuchHelp):
        manual.help_page("en", name)


@pytest.mark.parametrize(
    ("href", "leads_to"),
    [
        ("bills.md#a", "/help/bills#a"),
        ("../../TUNING.md", "/help/reference/TUNING"),
        ("../../spec/ledger.md", "/help/reference/spec/ledger"),
        ("../../../src/tesra/web", None),
        ("../../../README.md", None),
        ("javascript:alert(1)", None),
        ("https://example.org/a", "https://example.org/a"),
    ],
)
def test_where_a_link_leads(href: str, leads_to: str | None) -> None:
    assert manual.site_link(href, "help/en/training.md") == leads_to
