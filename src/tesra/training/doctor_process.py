"""The doctor's own process: hostile code can make a parser slow, large or crash, and nothing else.

Started as a file, with the folder of ``tesra`` as its argument; the standard library is all it
needs. Reads one line of JSON (``entry``, ``paths``, ``files`` with their sizes), then the files'
bytes; writes the report as JSON.
"""

import json
import resource
import sys

MEMORY_BYTES = 2**30
CPU_S = 20


def main() -> None:
    """Examine what comes in, within limits that the kernel keeps."""
    sys.path.insert(0, sys.argv[1])
    from tesra.doctor.examine import examine

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    given = json.loads(sys.stdin.buffer.readline())
    contents = {path: sys.stdin.buffer.read(size) for path, size in given["files"]}
    report = examine(contents, given["paths"], entry=given["entry"])
    json.dump(report.as_dict(), sys.stdout)


if __name__ == "__main__":
    main()
