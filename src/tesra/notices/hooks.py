"""Calls of webhooks: to the very address that was checked, no redirects, nothing of the answer kept."""

import asyncio
import socket
import time

import httpx

from tesra.kit.addresses import is_public
from tesra.kit.errors import Unavailable
from tesra.notices.model import check_hook_url, private_address, signature

TIMEOUT_S = 10.0
REFUSED_FROM = 300  # a redirect is an answer like any other refusal


class HookFailed(Unavailable):
    """The webhook did not take it."""


async def call(url: str, key: bytes, notice: str, content: bytes, *, private: bool) -> None:
    """POST the notice, signed; raises ``HookFailed`` or ``AddressInvalid``."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status = await _post(url, key, notice, content, private=private)
    except TimeoutError as error:
        raise HookFailed(f"No answer within {TIMEOUT_S:g} s.") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        told = f"{type(error).__name__}: {error}"[:300]
        raise HookFailed(f"It could not be called: {told}") from error
    if status >= REFUSED_FROM:
        raise HookFailed(f"It answered with {status}.")


async def _post(url: str, key: bytes, notice: str, content: bytes, *, private: bool) -> int:
    target = httpx.URL(check_hook_url(url, private=private))
    address = await _resolve(target, private=private)
    now = int(time.time())
    headers = {
        "Host": target.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "User-Agent": "tesra",
        "webhook-id": notice,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(key, notice, now, content),
    }
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
        client.stream(
            "POST",
            target.copy_with(host=address),
            content=content,
            headers=headers,
            extensions={"sni_hostname": target.host},  # the certificate is that of the name
        ) as answer,
    ):
        return answer.status_code


async def _resolve(target: httpx.URL, *, private: bool) -> str:
    """One address of the host; none when any of them is not public."""
    port = target.port or (443 if target.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    if not private and not all(is_public(address) for address in addresses):
        raise private_address(target.host)
    return addresses[0]
