"""What the commands about copies say."""

import pytest

from tesra.cli.commands.storage import _show_audit
from tesra.cli.output import Output
from tesra.wire.storage import AuditStand


@pytest.mark.parametrize(
    ("alarms", "said"), [(1, "There is 1 alarm: tesra alarms"), (2, "There are 2 alarms")]
)
def test_an_audit_counts_answers_and_alarms(
    capsys: pytest.CaptureFixture[str], alarms: int, said: str
) -> None:
    stand = AuditStand(asked=5, open=1, stalled=1)
    _show_audit(Output(as_json=False), stand, alarms, now=True)
    out = capsys.readouterr().out
    assert "3 of 5 copies answered." in out
    assert "1 owe an answer" in out
    assert said in out
