"""What a browser or program calls itself, as a person would say it. Pure."""

import re

_BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("MicroMessenger", "WeChat"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
_PROGRAM = re.compile(r"([\w.-]{1,40})(?:/([\w.-]{1,20}))?")


def program_of(user_agent: str | None) -> str:
    """Such as ``Firefox · Linux`` or ``tesra 0.1.0``; "" when it does not say."""
    if not user_agent:
        return ""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), None)
    if browser is None:
        match = _PROGRAM.match(user_agent)
        return " ".join(part for part in match.groups() if part) if match else user_agent[:40]
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), None)
    return f"{browser} · {system}" if system else browser
