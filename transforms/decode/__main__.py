"""``python -m transforms.decode [PAGE]`` prints the tables of ``docs/formats.md``, or writes them into it."""

import re
import sys
from pathlib import Path

from transforms.decode.registry import format_table

if __name__ == "__main__":
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        text = page.read_text(encoding="utf-8")
        tables = re.compile(r"^\| format \|.*\n(?:\|.*\n)+\n\| vendor body \|.*\n(?:\|.*\n)+", re.MULTILINE)
        page.write_text(tables.sub(lambda _: format_table() + "\n", text, count=1), encoding="utf-8")
    else:
        print(format_table())
