"""What users see when what they stored can't be had."""

from tesra.kit.errors import Conflict, NotFound, Unavailable


class StoragePeerUnknown(NotFound):
    """There is no such storage peer."""


class GatewayStays(Conflict):
    """The gateway stays: it is the peer that the server writes to."""


class OnlyCopies(Conflict):
    """This peer has the only good copy of something."""


class PackLocked(Conflict):
    """No good copy of this data is left: it is locked until one comes back."""


class PackAway(Unavailable):
    """The peers that hold this data do not answer now."""


class FilesLocked(Conflict):
    """No good copy of these files is left: they are locked until one comes back."""
