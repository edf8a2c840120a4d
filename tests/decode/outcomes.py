"""What the decoder of this process makes of records: ``python -m tests.decode.outcomes FILE``, a list of records as hex digits.

Prints whether it is the compiled decoder, and a text for each record that holds all that was read of it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import orjson

from transforms.decode import decode_record
from transforms.decode.compiled import is_compiled

SHORT = 300
"""Characters of a text that are given as they are: the rest is in the hash behind them."""


def told(outcome: Any) -> str:
    return f"{type(outcome).__name__} {vars(outcome) if hasattr(outcome, '__dict__') else outcome}"


def short(text: str) -> str:
    return f"{text[:SHORT]} {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


if __name__ == "__main__":
    records = [bytes.fromhex(each) for each in orjson.loads(Path(sys.argv[1]).read_bytes())]
    found = [short(" | ".join(map(told, decode_record(data)))) for data in records]
    sys.stdout.buffer.write(orjson.dumps({"compiled": is_compiled(), "outcomes": found}))
