import httpx

from tesra.app.storage import first_missing, peer_names


def _server(*peers: tuple[str, str], status: int = 200) -> httpx.Client:
    rows = [
        {"name": name, "state": state, "machine": "m", "copies": 0, "used_bytes": 0, "more": 1}
        for name, state in peers
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        return httpx.Response(status, json={"items": rows})

    return httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))


def test_nothing_is_missing_when_all_peers_have_joined() -> None:
    there = _server(("peer-1", "online"), ("peer-2", "contained"), ("elsewhere", "offline"))
    assert first_missing(there, "secret", 2) is None


def test_a_peer_that_is_away_is_missing() -> None:
    assert first_missing(_server(("peer-1", "online")), "secret", 2) == "peer-2"
    there = _server(("peer-1", "offline"), ("peer-2", "online"))
    assert first_missing(there, "secret", 2) == "peer-1"


def test_every_peer_is_missing_while_the_server_can_not_say() -> None:
    assert first_missing(_server(status=500), "secret", 3) == "peer-1"


def test_the_names_of_peers_are_those_of_their_folders() -> None:
    assert peer_names(3) == ["peer-1", "peer-2", "peer-3"]
