"""What the platform says of a cause, in the reader's language: why a run waits, how it ended, what
the doctor found, what an alarm is about.

Such words come as English text, made from templates that the catalogue knows (``kit.saying``). A
text is matched with them, its fields are read out and said again. What fits none stays as it is: a
user's own words, and those of a node that is newer than the server. Matching takes no longer than
the text is long, whatever stands in it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache

from tesra.web.ui.language import Language, language, translations

PARTS = ("errors", "reasons")
_FIELD = re.compile(r"\{([a-z]\w*(?::d)?)\}")
_SHAPES = {"place": re.compile(r"\S+:\d+"), "node": re.compile(r"\S+")}
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")
_LIST = re.compile(r"(, |; )")
_BETWEEN = {", ": "、", "; ": "；"}
_PARTING = re.compile(r"\n|; |[.!?] ")  # what a field has only if it was said as a whole
_LONGEST = 8192
_LONGEST_HEAD = 2000
_LONGEST_LIST = 50
_DEEPEST = 5


@dataclass(frozen=True, slots=True)
class Template:
    """``literals`` stand before, between and behind the fields."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    said: str

    def read(self, text: str) -> dict[str, str] | None:
        """The fields of a text that was made from it; None: it was not.

        Only in quotes may nothing stand.
        """
        first, *_, last = self.literals
        if not text.startswith(first) or not text.endswith(last):
            return None
        found: dict[str, str] = {}
        at, end = len(first), len(text) - len(last)
        for place, name in enumerate(self.names, 1):
            behind = self.literals[place]
            least = 0 if self.literals[place - 1][-1:] == behind[:1] == "'" else 1
            stop = end if place == len(self.names) else text.find(behind, at + least, end)
            if stop < at + least:
                return None
            value = text[at:stop]
            if found.setdefault(name, value) != value or not _fits(name, value):
                return None
            at = stop + len(behind)
        return found

    def filled(self, fields: Mapping[str, str | None]) -> str:
        return _FIELD.sub(lambda found: fields[found[1]] or "", self.said)

    @property
    def weight(self) -> int:
        """How much of it is no field: of several that fit, the heaviest says most."""
        return sum(map(len, self.literals))


def tell(spoken: Language, text: str | None) -> str:
    """The text in this language, as far as its templates are known."""
    if not text or spoken.tag == "en":
        return text or ""
    return _told(spoken.tag, text)


@lru_cache(maxsize=4096)
def _told(tag: str, text: str) -> str:
    return text if len(text) > _LONGEST else _Reader(*_templates(tag)).told(text)


class _Reader:
    """Reads one text."""

    def __init__(
        self, plain: Mapping[str, str], templates: Mapping[str, Sequence[Template]]
    ) -> None:
        self._plain = plain
        self._templates = templates
        self._depth = 0
        self._read: dict[tuple[str, bool], str | None] = {}

    def told(self, text: str) -> str:
        """As much of it as is known."""
        if self._depth > _DEEPEST:
            return text
        if "\n" in text:
            return self._lines(text)
        return self._known(text) or self._sentences(text) or self._loose(text) or text

    def _lines(self, text: str) -> str:
        """A first line that is said, then a log's end or what a tool printed, with at most a hint."""
        above, _, last = text.rpartition("\n")
        hint = self._known(last) if last.endswith(".") else None
        if hint is not None:
            return f"{self.told(above)}\n{hint}"
        first, _, rest = text.partition("\n")
        return self._loose(text, lines=True) or f"{self.told(first)}\n{rest}"

    def _sentences(self, text: str) -> str | None:
        """As many sentences from the first one on as are known together, then the rest."""
        ends = [found.start() for found in _SENTENCE_END.finditer(text[:_LONGEST_HEAD])]
        for end in reversed(ends):
            head = self._known(text[:end])
            if head is not None:
                rest = self._deeper(text[end + 1 :])
                return head + rest if head.endswith(("。", "！", "？")) else f"{head} {rest}"
        return None

    def _known(self, text: str) -> str | None:
        """One text, or a list of such; also with the capital and the full stop of a sentence."""
        forms = [
            ((first + text[1:]).removesuffix(stop), shown)
            for first in dict.fromkeys([text[:1], text[:1].lower()])
            for stop, shown in (("", ""), (".", "。"))
            if text.endswith(stop)
        ]
        for read in (self._several, self._one, self._open):
            for form, shown in forms:
                told = read(form)
                if told is not None:
                    return told + shown
        return None

    def _several(self, text: str) -> str | None:
        parts = _LIST.split(text)
        if not 1 < len(parts) < _LONGEST_LIST:
            return None
        told = [one for part in parts[::2] if (one := self._one(part)) is not None]
        if len(told) < len(parts[::2]):
            return None
        betweens = [*(_BETWEEN[between] for between in parts[1::2]), ""]
        return "".join(f"{one}{between}" for one, between in zip(told, betweens, strict=True))

    def _one(self, text: str) -> str | None:
        """A text that was made from one template; a full stop at its end is a known one's."""
        return self._remembered(text, closed=True)

    def _open(self, text: str) -> str | None:
        """With a field that has a full stop of its own and is nothing that was said here."""
        return self._remembered(text, closed=False)

    def _remembered(self, text: str, *, closed: bool) -> str | None:
        if (text, closed) not in self._read:
            self._read[text, closed] = self._plain.get(text) or self._matched(text, closed=closed)
        return self._read[text, closed]

    def _matched(self, text: str, *, closed: bool) -> str | None:
        for template in self._fitting(text):
            fields = template.read(text)
            if fields is None or (closed and self._ends_open(template, fields)):
                continue
            told = {name: self._field(value) for name, value in fields.items()}
            if None not in told.values():
                return template.filled(told)
        return None

    def _loose(self, text: str, *, lines: bool = False) -> str | None:
        """Whatever stands in the fields; ``lines``: only from a template of several lines."""
        for template in self._fitting(text):
            if lines and "\n" not in "".join(template.literals):
                continue
            fields = template.read(text)
            if fields is not None:
                return template.filled({name: self._deeper(one) for name, one in fields.items()})
        return None

    def _fitting(self, text: str) -> Sequence[Template]:
        return self._templates.get(text[:1], self._templates[""])

    def _ends_open(self, template: Template, fields: Mapping[str, str]) -> bool:
        last = fields[template.names[-1]]
        if template.literals[-1] or not last.endswith(".") or self._depth > _DEEPEST:
            return False
        with self._below():
            return self._several(last) is None and self._one(last) is None

    def _field(self, value: str) -> str | None:
        """A field that was itself said; single words are names, and stay. None: it is no field."""
        if not _PARTING.search(value):
            return self._deeper(value)
        if self._depth > _DEEPEST:
            return None
        with self._below():
            return self._known(value)

    def _deeper(self, value: str) -> str:
        with self._below():
            return self.told(value) if " " in value else value

    @contextmanager
    def _below(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


def _fits(name: str, value: str) -> bool:
    if name.endswith(":d"):
        return value.isdecimal()
    shape = _SHAPES.get(name)
    return shape is None or bool(shape.fullmatch(value))


@cache
def _templates(tag: str) -> tuple[dict[str, str], dict[str, tuple[Template, ...]]]:
    """Texts without fields; and templates by what a text begins with, the heaviest first.

    Those that begin with a field are everywhere, and alone behind ``""``.
    """
    pairs = [pair for part in PARTS for pair in translations(language(tag).locale, part)]
    plain = {text: said for text, said in pairs if not _FIELD.search(text)}
    cut = [(_FIELD.split(text), said) for text, said in pairs if text not in plain]
    found = [Template(tuple(parts[::2]), tuple(parts[1::2]), said) for parts, said in cut]
    heaviest_first = sorted(found, key=lambda one: -one.weight)
    begins = {one.literals[0][:1] for one in found} | {""}
    return plain, {
        begin: tuple(one for one in heaviest_first if one.literals[0][:1] in {begin, ""})
        for begin in begins
    }
