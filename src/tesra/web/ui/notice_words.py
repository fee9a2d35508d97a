"""What notices say, in the reader's language."""

from collections.abc import Mapping

from tesra.notices.model import Event
from tesra.web.ui.language import TAGS, Language, language
from tesra.web.ui.reasons import tell


def tell_channel(spoken: str, text: str) -> str:
    """What the platform says of a cause, in the language of a channel (``zh``)."""
    tag = next(tag for tag in TAGS if tag.split("-")[0] == spoken)
    return tell(language(tag), text)


def event_names(spoken: Language) -> Mapping[str, str]:
    """Each kind of event, as one chooses it."""
    return {
        Event.ENDED: spoken.say("A run has ended well"),
        Event.FAILED: spoken.say("A run has failed"),
        Event.CAP: spoken.say("A run was stopped at its cap"),
        Event.NEAR_CAP: spoken.say("A run comes near its cap"),
        Event.AGAIN: spoken.say("A run lost its node and is queued again"),
        Event.BILL: spoken.say("A bill waits to be paid"),
        Event.SWEEP: spoken.say("A sweep has ended"),
        Event.ALARM: spoken.say("An alarm of the network"),
        Event.TEST: spoken.say("A test"),
    }
