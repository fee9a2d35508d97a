import json
import socket
from pathlib import Path

import pytest

from tesra.app.choices import (
    Choices,
    DevicesInvalid,
    PortBusy,
    PortInvalid,
    RunsOtherwise,
    Wish,
    choose,
    free_port,
    load_choices,
    port_is_free,
    render_choices,
    require_free,
)

FREE = 50_000
REMEMBERED = Choices(host="127.0.0.1", port=9000, devices=2, sandbox=True)


def settle(
    wish: Wish, remembered: Choices | None = None, *, fixed: bool = False, busy: bool = False
) -> Choices:
    return choose(
        wish,
        remembered,
        fixed=fixed,
        port_is_free=lambda host, port: not busy,
        free_port=lambda host: FREE,
    )


def test_new_home_takes_the_defaults() -> None:
    assert settle(Wish()) == Choices(host="127.0.0.1", port=8420, devices=None, sandbox=True)


def test_what_was_asked_for_wins_over_what_is_remembered() -> None:
    wish = Wish(port=9001, devices=4, sandbox=False)
    assert settle(wish, REMEMBERED) == Choices("127.0.0.1", 9001, 4, False)


def test_home_is_started_again_as_it_was() -> None:
    assert settle(Wish(), REMEMBERED) == REMEMBERED


def test_port_zero_picks_a_free_one() -> None:
    assert settle(Wish(port=0)).port == FREE


def test_port_zero_keeps_the_remembered_port_while_it_is_free() -> None:
    assert settle(Wish(port=0), REMEMBERED).port == REMEMBERED.port


def test_port_zero_leaves_a_remembered_port_that_another_took() -> None:
    assert settle(Wish(port=0), REMEMBERED, busy=True).port == FREE


def test_running_network_keeps_its_choices() -> None:
    assert settle(Wish(port=0), REMEMBERED, fixed=True, busy=True) == REMEMBERED
    assert settle(Wish(port=9000, devices=2), REMEMBERED, fixed=True) == REMEMBERED


@pytest.mark.parametrize(
    "wish", [Wish(port=9001), Wish(devices=3), Wish(sandbox=False), Wish(nodes=2)]
)
def test_running_network_refuses_other_choices(wish: Wish) -> None:
    with pytest.raises(RunsOtherwise) as caught:
        settle(wish, REMEMBERED, fixed=True)
    assert caught.value.way_out == "Stop it first: tesra down"


@pytest.mark.parametrize("port", [-1, 65_536])
def test_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(PortInvalid):
        settle(Wish(port=port))


@pytest.mark.parametrize("devices", [0, -1, 100_000])
def test_number_of_devices_that_makes_no_sense_is_refused(devices: int) -> None:
    with pytest.raises(DevicesInvalid):
        settle(Wish(devices=devices))


def test_number_of_nodes_is_remembered() -> None:
    two = settle(Wish(nodes=2), REMEMBERED)
    assert two.nodes == 2
    assert settle(Wish(), two).nodes == 2
    assert settle(Wish(nodes=1), two).nodes == 1


def test_more_nodes_than_devices_are_refused() -> None:
    with pytest.raises(DevicesInvalid, match="2 devices cannot be shared out to 3 nodes"):
        settle(Wish(nodes=3), REMEMBERED)


def test_home_of_an_earlier_version_has_one_node(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"host": "127.0.0.1", "port": 9000, "devices": 2, "sandbox": true}')
    assert load_choices(path) == REMEMBERED


def test_choices_survive_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert load_choices(path) is None
    path.write_text(render_choices(REMEMBERED))
    assert load_choices(path) == REMEMBERED
    assert json.loads(path.read_text())["url"] == "http://127.0.0.1:9000"


def test_busy_port_is_refused_with_a_way_out() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
        with pytest.raises(PortBusy, match=str(port)) as caught:
            require_free(Choices("127.0.0.1", port, None, True))
    assert "--port 0" in str(caught.value.way_out)


def test_free_port_is_free() -> None:
    assert port_is_free("127.0.0.1", free_port("127.0.0.1"))


def test_three_storage_peers_unless_the_home_or_the_wish_has_another_number() -> None:
    assert settle(Wish()).peers == 3
    assert settle(Wish(peers=1)).peers == 1
    assert settle(Wish(), settle(Wish(peers=5))).peers == 5
    with pytest.raises(RunsOtherwise, match="--peers"):
        settle(Wish(peers=2), REMEMBERED, fixed=True)
