"""What a page says in which language: catalogues, and how dates, numbers and money are written.

English is the source: a message's key is its English text. Every other language has a folder of
catalogues under ``locale/``, one file for each part of the pages.
"""

import gettext
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path

from babel import Locale, dates, numbers
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

from tesra.kit.money import MICROS

FOLDER = Path(__file__).parent / "locale"
TAGS: Mapping[str, str] = {"en": "English", "zh-CN": "简体中文"}
DEFAULT = "en"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_RANGE = re.compile(r"\s*([A-Za-z*-]{1,20})\s*(?:;\s*q=([0-9.]{1,5}))?\s*")


@dataclass(frozen=True, slots=True)
class Language:
    """One language: ``say`` translates, the rest writes values in its form."""

    tag: str
    locale: Locale
    catalogue: gettext.NullTranslations

    def say(self, text: str, **values: object) -> str:
        """The text in this language, with ``%(name)s`` filled in."""
        said = self.catalogue.gettext(text)
        return said % values if values else said

    def say_many(self, one: str, many: str, count: int, **values: object) -> str:
        """The form that fits ``count``, which is ``%(num)s`` in it."""
        shown = {"num": self.number(count), **values}
        return self.catalogue.ngettext(one, many, count) % shown

    def number(self, value: float | Decimal, *, decimals: int | None = None) -> str:
        pattern = None if decimals is None else "#,##0" + ("." + "0" * decimals if decimals else "")
        return numbers.format_decimal(value, pattern, locale=self.locale)

    def percent(self, share: float) -> str:
        return numbers.format_percent(share, "#,##0.#%", locale=self.locale)

    def cny(self, amount: str | int | Decimal, *, exact: bool = False) -> str:
        """Money: micro-yuan as an integer, or yuan as text; ``exact`` shows all six decimals."""
        yuan = Decimal(amount) / MICROS if isinstance(amount, int) else Decimal(amount)
        pattern = "¤#,##0.00####" if exact else None
        written = numbers.format_currency(
            yuan, "CNY", pattern, locale=self.locale, currency_digits=not exact
        )
        return written.replace("CN¥", "¥")

    def size(self, count_bytes: int) -> str:
        """Bytes in the unit that reads best."""
        value, unit = float(count_bytes), 0
        while value >= 1024 and unit < len(_UNITS) - 1:
            value, unit = value / 1024, unit + 1
        return f"{self.number(round(value, 1 if unit else 0))} {_UNITS[unit]}"

    def moment(self, at: datetime, zone: str | None = None) -> str:
        """The exact time, with its zone."""
        known = at if at.tzinfo else at.replace(tzinfo=UTC)
        tz = dates.get_timezone(zone) if zone else UTC
        return dates.format_datetime(
            known, "yyyy-MM-dd HH:mm:ss zzz", tzinfo=tz, locale=self.locale
        )

    def day(self, at: datetime) -> str:
        return dates.format_date(at, "medium", locale=self.locale)

    def ago(self, at: datetime, now: datetime) -> str:
        """How long ago (or in how long), in the largest unit that fits."""
        return dates.format_timedelta(at - now, add_direction=True, locale=self.locale)

    def duration(self, length_s: float) -> str:
        """A length of time: two units at most."""
        whole = timedelta(seconds=max(0, round(length_s)))
        if whole < timedelta(minutes=1):
            return dates.format_timedelta(whole, threshold=100, format="narrow", locale=self.locale)
        hours, rest_s = divmod(int(whole.total_seconds()), 3600)
        minutes, seconds = divmod(rest_s, 60)
        days, hours = divmod(hours, 24)
        parts = [("day", days), ("hour", hours), ("minute", minutes), ("second", seconds)]
        first = next(place for place, (_, count) in enumerate(parts) if count)
        shown = [(unit, count) for unit, count in parts[first : first + 2] if count]
        return " ".join(
            dates.format_timedelta(
                timedelta(**{f"{unit}s": count}),
                granularity=unit,  # type: ignore[arg-type]  # babel's literals
                threshold=10_000,
                format="narrow",
                locale=self.locale,
            )
            for unit, count in shown
        )


@cache
def language(tag: str) -> Language:
    """The language of a tag in ``TAGS``; its catalogues are read once."""
    locale = Locale.parse(tag, sep="-")
    return Language(tag, locale, _catalogue(locale))


def known_tag(wanted: str | None) -> str | None:
    """The tag of ours that fits what was asked for, or None."""
    if not wanted:
        return None
    lowered = wanted.replace("_", "-").lower()
    for tag in TAGS:
        if lowered == tag.lower() or lowered.split("-")[0] == tag.split("-")[0].lower():
            return tag
    return None


def accepted_tag(header: str | None) -> str:
    """The best of our languages for an ``Accept-Language`` header."""
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate((header or "")[:500].split(",")):
        match = _RANGE.fullmatch(part)
        tag = known_tag(match[1]) if match else None
        if match and tag:
            ranked.append((-_quality(match[2]), place, tag))
    best = min(ranked, default=None)
    return best[2] if best and best[0] < 0 else DEFAULT


def _quality(text: str | None) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


def translations(locale: Locale, part: str) -> list[tuple[str, str]]:
    """The texts of one catalogue with their translations, those that count left out."""
    path = _folder(locale) / f"{part}.po"
    found = []
    for one in _read(path, locale):
        if one.id and isinstance(one.id, str) and isinstance(one.string, str):
            found.append((one.id, one.string))  # noqa: PERF401 - a comprehension forgets the types
    return found


def _catalogue(locale: Locale) -> gettext.NullTranslations:
    merged = Translations()
    for path in sorted(_folder(locale).glob("*.po")):
        compiled = io.BytesIO()
        write_mo(compiled, _read(path, locale))
        compiled.seek(0)
        translated = Translations(compiled)
        merged.merge(translated)
        merged.plural = translated.plural  # which a merge leaves as English has it
    return merged


def _folder(locale: Locale) -> Path:
    return FOLDER / str(locale).replace("_Hans", "")


def _read(path: Path, locale: Locale) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=locale)
