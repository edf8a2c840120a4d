"""``LLM_FINOPS_COMPILE=1`` has mypyc compile the decoder; without it, as nearly always, everything stays Python.

Compiling needs a C compiler, and mypy in the environment that builds (``pip install --no-build-isolation``). The sources are
installed beside what is made of them, and run where nothing compiled fits the interpreter. ``pyproject.toml`` lists what is
compiled.
"""

import os
import tomllib
from pathlib import Path

from setuptools import setup

if os.environ.get("LLM_FINOPS_COMPILE") == "1":
    from mypyc.build import mypycify

    asked = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["llm-finops"]["compiled"]
    files = sorted(str(path) for pattern in asked for path in Path().glob(pattern))
    # that types of a package are not installed is no error here, nor is a comment that is then of no use
    lenient = ["--ignore-missing-imports", "--no-warn-unused-ignores"]
    setup(ext_modules=mypycify([*lenient, *files], opt_level="3", debug_level="0", group_name="llm_finops"))
else:
    setup()
