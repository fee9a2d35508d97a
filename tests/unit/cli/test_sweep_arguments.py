"""What `tesra sweep --metric` takes."""

import pytest

from tesra.cli.arguments import ArgumentInvalid
from tesra.cli.sweeping import metric_of


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("val_loss:min", ("val_loss", "min")),
        ("acc", ("acc", None)),
        ("eval:loss:max", ("eval:loss", "max")),
        ("a:score", ("a:score", None)),
    ],
)
def test_direction_stands_after_the_last_colon(text: str, meant: tuple[str, str | None]) -> None:
    assert metric_of(text) == meant


def test_unknown_direction_is_told_before_trials_are_paid_for() -> None:
    with pytest.raises(ArgumentInvalid, match="'up' is neither min nor max") as caught:
        metric_of("loss:up")
    assert "loss:min" in str(caught.value.way_out)
