"""What the import doctor says of a stored project."""

from tesra.doctor.report import Report
from tesra.wire.common import Answer


class DoctorAnswer(Answer):
    """``command``: the words of the ``tesra run`` that the report proposes."""

    project: str
    snapshot: str
    report: Report
    command: list[str]
