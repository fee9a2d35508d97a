"""What the API says to a script of a page, which shows it to a person: in that person's language.

Such a script proves its session with a header that no other caller sends; all others hear English.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from tesra.web.session import CSRF_HEADER
from tesra.web.ui.visit import spoken_to
from tesra.web.ui.wording import in_words

Tell = Callable[[str], str]


def is_script(request: Request) -> bool:
    """Whether a page's script asks the API."""
    return request.url.path.startswith("/api/") and CSRF_HEADER in request.headers


def _teller(request: Request) -> Tell:
    if not is_script(request):
        return str
    spoken = spoken_to(request)
    return lambda words: in_words(spoken, words)


ToldTo = Annotated[Tell, Depends(_teller)]  # says a text of the platform's to who asks
