"""What notices say on pages, in the reader's language."""

from collections.abc import Mapping

from tesra.notices.model import Event
from tesra.web.ui.language import Language


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
