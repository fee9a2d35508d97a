"""Templates: Jinja2, escaped always, strict about what is missing, in the visitor's language."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tesra.web.ui.language import Language
from tesra.web.ui.reasons import tell
from tesra.web.ui.static_files import static_url

FOLDER = Path(__file__).parent / "templates"
_spoken: ContextVar[Language] = ContextVar("spoken")


@contextmanager
def speaking(spoken: Language) -> Iterator[None]:
    """Templates rendered inside say everything in this language."""
    before = _spoken.set(spoken)
    try:
        yield
    finally:
        _spoken.reset(before)


def render(template: str, spoken: Language, /, **context: Any) -> str:
    """A template as text; a name that is not in ``context`` is an error, never an empty string."""
    with speaking(spoken):
        return _environment().get_template(template).render(**context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        auto_reload=False,
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]  # of the extension
        lambda text: _spoken.get().catalogue.gettext(text),
        lambda one, many, count: _spoken.get().catalogue.ngettext(one, many, count),
        newstyle=True,
    )
    environment.globals.update(static_url=static_url)
    environment.filters.update(
        cny=lambda amount, exact=False: _spoken.get().cny(amount, exact=exact),
        size=lambda count: _spoken.get().size(count),
        number=lambda value, decimals=None: _spoken.get().number(value, decimals=decimals),
        percent=lambda share: _spoken.get().percent(share),
        duration=lambda length_s: _spoken.get().duration(length_s),
        day=lambda at: _spoken.get().day(at),
        when=_when,
        coded=_coded,
        moment=lambda at: _spoken.get().moment(at),
        told=lambda text: tell(_spoken.get(), text),
    )
    return environment


def _when(at: datetime | None) -> Markup | str:
    """A time as it is told: relative, the exact one on hover (a script writes it in local time)."""
    if at is None:
        return "–"
    spoken = _spoken.get()
    return Markup('<time datetime="{}" title="{}" tabindex="0">{}</time>').format(
        at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        spoken.moment(at),
        escape(spoken.ago(at, datetime.now(UTC))),
    )


def _coded(text: str) -> Markup:
    """Words with commands between backticks, which are shown as commands."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))  # noqa: S704 - escaped before
