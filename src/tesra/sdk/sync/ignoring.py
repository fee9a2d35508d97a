"""``.tesraignore``: gitignore's patterns, in any folder, for what lies below it."""

from functools import cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from tesra.sdk.landing import PARTS_NAME

IGNORE_FILE = ".tesraignore"


class Ignored:
    """Tells which paths a sync leaves alone, on both sides; the folder's own files say so."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rules = cache(self._read_rules)
        self._folder = cache(self._folder_hidden)

    def hides(self, path: str, *, folder: bool = False) -> bool:
        if folder:
            return self._folder(path)
        return self._folder(path.rpartition("/")[0]) or self._says(path)

    def _folder_hidden(self, path: str) -> bool:
        if not path:
            return False
        return path == PARTS_NAME or self._folder(path.rpartition("/")[0]) or self._says(f"{path}/")

    def _says(self, path: str) -> bool:
        """The nearest file that says anything of it is right."""
        above = path.rstrip("/")
        while above:
            above = above.rpartition("/")[0]
            rules = self._rules(above)
            if rules is not None:
                verdict = rules.check_file(path[len(above) + 1 if above else 0 :]).include
                if verdict is not None:
                    return verdict
        return False

    def _read_rules(self, folder: str) -> GitIgnoreSpec | None:
        file = self._root / folder / IGNORE_FILE
        if not file.is_file() or file.is_symlink():
            return None
        text = file.read_text(encoding="utf-8", errors="replace")
        return GitIgnoreSpec.from_lines(text.splitlines())
