"""The help, in the visitor's language; what it refers to in depth is in English."""

from fastapi import Response

from tesra.web.ui import manual
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Visit, Visitor

router = PageRouter()


@router.get("/help")
async def index(visit: Visitor) -> Response:
    return _page(visit, manual.help_page(visit.language.tag, manual.INDEX), here=None)


@router.get("/help/reference/{name:path}")
async def reference(name: str, visit: Visitor) -> Response:
    return _page(visit, manual.reference(name), here=name, in_english=True)


@router.get("/help/{name}")
async def page(name: str, visit: Visitor) -> Response:
    return _page(visit, manual.help_page(visit.language.tag, name), here=name)


def _page(
    visit: Visit, shown: manual.Manual, *, here: str | None, in_english: bool = False
) -> Response:
    return visit.page(
        "help/page.html",
        shown=shown,
        chapters=manual.chapters(visit.language.tag),
        current=here,
        in_english=in_english and visit.language.tag != "en",
    )
