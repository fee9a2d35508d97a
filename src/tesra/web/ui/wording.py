"""What an error says on a page: in the reader's language, with a way out that a browser can take.

Domains name commands as the way out (``tesra pay …``); a page leaves those to the command line and
links to the place where the same can be done.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tesra.kit import errors
from tesra.web.ui.language import Language
from tesra.web.ui.reasons import tell


def _(text: str) -> str:
    """Marks a text for the catalogues; it is translated where it is used."""
    return text


_COMMAND = re.compile(r"\btesra [a-z…]|\bTESRA_|(?<![\w-])--[a-z]")
_DONE_AT = {
    "tesra.billing": ("/bills", _("Go to the bills")),
    "tesra.training": ("/training", _("Go to training")),
    "tesra.drive": ("/drive", _("Go to the drive")),
    "tesra.identity": ("/account", _("Go to the account")),
    "tesra.notices": ("/account/notices", _("Notices")),
}


@dataclass(frozen=True, slots=True)
class WayOut:
    """What can be done: a sentence, a link, or both."""

    text: str | None = None
    href: str | None = None
    label: str | None = None


def error_words(spoken: Language, error: errors.TesraError) -> str:
    """The error's own words; what no catalogue knows, a newer node's say, stands behind its kind's."""
    own = in_words(spoken, error.detail)
    kind = (type(error).__doc__ or "").strip().split("\n")[0]
    if spoken.tag == "en" or own != error.detail or not kind or error.detail == kind:
        return own
    return f"{spoken.say(kind)} ({error.detail})"


def in_words(spoken: Language, text: str) -> str:
    """A text in the reader's language, whether it is always the same or made from a template."""
    own = spoken.say(text)
    return tell(spoken, text) if own == text else own


def refused(spoken: Language, fault: Mapping[str, Any]) -> str:
    """Why pydantic refuses a value, of one of its errors."""
    return in_words(spoken, str(fault["msg"]).removeprefix("Value error, "))


def way_out(spoken: Language, error: errors.TesraError) -> WayOut:
    """Where to go on from an error; its own words unless they name a command."""
    text = error.way_out
    if text is not None and not _COMMAND.search(text):
        return WayOut(text=in_words(spoken, text))
    if isinstance(error, errors.PaymentDue) and "bill" in error.fields:
        return WayOut(href=f"/bills/{error.fields['bill']}", label=spoken.say("Pay it"))
    if isinstance(error, errors.Unauthenticated):
        return WayOut(href="/sign-in", label=spoken.say("Sign in"))
    if text is None:
        return WayOut()
    for package, (href, label) in _DONE_AT.items():
        if type(error).__module__.startswith(package):
            return WayOut(href=href, label=spoken.say(label))
    return WayOut()
