"""The migrations are one chain: each has a number of its own, and no two follow the same one."""

import re
from collections import Counter
from pathlib import Path

import tesra.db.migrations.versions as versions

SAID = re.compile(r'^(revision|down_revision) = (?:"(\d{4})"|None)$', re.MULTILINE)


def test_migrations_are_one_chain() -> None:
    files = sorted(Path(versions.__file__).parent.glob("0*.py"))
    chain = [dict(SAID.findall(path.read_text("utf-8"))) for path in files]
    numbers = [one["revision"] for one in chain]
    followed = Counter(one["down_revision"] for one in chain)
    assert numbers == [path.name[:4] for path in files]
    assert Counter(numbers).most_common(1)[0][1] == 1
    assert followed.most_common(1)[0][1] == 1
    assert set(followed) - set(numbers) == {""}  # of the first
