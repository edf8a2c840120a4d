"""Whether the decoder runs as Python or compiled; ``setup.py`` says how it is compiled. Both read records alike."""

from importlib.machinery import EXTENSION_SUFFIXES

from transforms.decode import record


def is_compiled() -> bool:
    """Whether what is imported here is the compiled decoder."""
    return str(record.__file__).endswith(tuple(EXTENSION_SUFFIXES))
