"""Mail by SMTP, from the standard library; one connection for one mail, in a thread."""

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit

from tesra.kit.errors import Unavailable
from tesra.kit.settings import SettingInvalid
from tesra.notices.model import AddressInvalid, check_mailbox

TIMEOUT_S = 20.0
_PORTS = {"smtp": 587, "smtps": 465}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class MailRefused(Unavailable):
    """The mail server did not take the mail."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """``implicit_tls`` is smtps; otherwise STARTTLS is used when it is offered."""

    host: str
    port: int
    sender: str
    implicit_tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def read_mail_server(url: str) -> MailServer:
    """From ``smtp://user:password@host:port/?from=a@b``; the user and password are percent-encoded."""
    try:
        parts = urlsplit(url)
        port, senders = parts.port, parse_qs(parts.query).get("from", [])
        if parts.scheme not in _PORTS or not parts.hostname or len(senders) != 1:
            raise ValueError
        sender = check_mailbox(senders[0])
    except (ValueError, AddressInvalid) as error:
        raise SettingInvalid(
            "TESRA_SMTP_URL is not the address of a mail server.",
            way_out="Write it like smtp://user:password@host:587/?from=tesra@example.org, or unset it.",
        ) from error
    return MailServer(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        sender=sender,
        implicit_tls=parts.scheme == "smtps",
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def compose(server: MailServer, to: str, words: tuple[str, str], notice: str) -> EmailMessage:
    """``words`` are subject and text; no header can hold more than its own line."""
    message = EmailMessage()
    message["From"] = server.sender
    message["To"] = check_mailbox(to)
    message["Subject"] = " ".join(words[0].split())
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{notice}@{server.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(words[1])
    return message


def send(server: MailServer, message: EmailMessage) -> None:
    """Hand it over; raises ``MailRefused``. Blocks: call it in a thread."""
    try:
        with _connected(server) as connection:
            connection.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        raise MailRefused(f"The mail server did not take it: {_words(error)}") from error


def _connected(server: MailServer) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if server.implicit_tls:
        connection: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
    try:
        _introduce(connection, server, context)
    except BaseException:
        connection.close()
        raise
    return connection


def _introduce(connection: smtplib.SMTP, server: MailServer, context: ssl.SSLContext) -> None:
    connection.ehlo_or_helo_if_needed()
    encrypted = server.implicit_tls
    if not encrypted and connection.has_extn("starttls"):
        connection.starttls(context=context)
        connection.ehlo()
        encrypted = True
    if server.user is None:
        return
    if not encrypted and server.host not in _LOOPBACK:
        raise MailRefused("The mail server offers no encryption: the password was not sent to it.")
    connection.login(server.user, server.password or "")


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        return f"{error.smtp_code} {text}"[:300]
    return (str(error) or type(error).__name__)[:300]
