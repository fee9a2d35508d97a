"""Write the hashed requirements files: one for every set of dependencies, all with equal versions.

``dev`` is resolved first and holds everything; the other sets take its versions as constraints,
so that what was tested is what is installed. Versions that are locked stay until ``--upgrade``.
The files name no registry and no machine path.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = Path("requirements")
TOOLS_INPUT = LOCKS / "tools.in"
DEV = LOCKS / "dev.txt"

SETS: dict[str, list[str]] = {
    "tools": [str(TOOLS_INPUT)],
    "base": ["pyproject.toml"],
    "server": ["pyproject.toml", "--extra", "server"],
    "node": ["pyproject.toml", "--extra", "node"],
}


def compile_lock(target: Path, inputs: list[str]) -> None:
    command = [
        sys.executable, "-m", "uv", "pip", "compile", *inputs,
        "--universal", "--python-version", "3.11", "--generate-hashes",
        "--no-emit-index-url", "--no-emit-find-links",
        "--custom-compile-command", "make lock",
        "--quiet", "--output-file", str(target),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions allowed")
    upgrade = ["--upgrade"] if parser.parse_args().upgrade else []
    everything = ["pyproject.toml", "--all-extras", "--group", "dev", str(TOOLS_INPUT)]
    compile_lock(DEV, [*everything, *upgrade])
    for name, inputs in SETS.items():
        compile_lock(LOCKS / f"{name}.txt", [*inputs, "--constraint", str(DEV), *upgrade])
    sys.stdout.write(f"Locked {len(SETS) + 1} sets in {LOCKS}/\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
