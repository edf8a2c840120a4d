"""Invoices: what a vendor charged, beside what our calls come to.

``focus`` and ``openai`` read rows of invoice files, ``compare`` sets charges against calls and says what the difference is made
of, ``imports`` says which of several imports is in force, ``spread`` puts what was billed on calls.
"""

from transforms.invoice.compare import PARTS, Comparison, Difference, Ours, compare
from transforms.invoice.focus import PROVIDERS, focus_charge
from transforms.invoice.models import Models
from transforms.invoice.openai import openai_charge
from transforms.invoice.values import CellError, text

__all__ = [
    "PARTS",
    "PROVIDERS",
    "CellError",
    "Comparison",
    "Difference",
    "Models",
    "Ours",
    "compare",
    "focus_charge",
    "openai_charge",
    "text",
]
