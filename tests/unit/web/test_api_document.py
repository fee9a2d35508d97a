"""The API's own reference can be made, with the routes that answer in streams."""

from typing import Any, cast

from tesra.web.api import create_api


def test_streams_are_in_the_document_with_their_type() -> None:
    document = create_api(cast(Any, None)).openapi()
    for path in ("/api/v1/runs/{run}/live", "/api/v1/live"):
        answer = document["paths"][path]["get"]["responses"]["200"]
        assert list(answer["content"]) == ["text/event-stream"]
