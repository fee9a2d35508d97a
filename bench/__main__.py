"""``make bench``: run the scripts of this folder, or those that are named, one after another."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    known = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    names = sys.argv[1:] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.stderr.write(f"No such bench: {', '.join(unknown)}. There are: {', '.join(known)}\n")
        return 2
    for name in names:
        sys.stderr.write(f"bench {name}\n")
        subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=FOLDER.parent, check=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
