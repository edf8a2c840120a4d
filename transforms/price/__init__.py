"""Prices: an effective-dated price book and the exact cost of each call.

``load_book`` reads and compiles the book and the contracts over it, ``price_batch`` prices a batch of calls, ``explain``
shows the sum for one.
"""

from transforms.price.book import Book, Key, book_rows, load_book
from transforms.price.contracts import Contract, Payer
from transforms.price.explain import CallExplanation, Explanation, Line, explain, explain_call
from transforms.price.fields import BookError
from transforms.price.pricing import PricedColumns, price_batch

__all__ = [
    "Book",
    "BookError",
    "CallExplanation",
    "Contract",
    "Explanation",
    "Key",
    "Line",
    "Payer",
    "PricedColumns",
    "book_rows",
    "explain",
    "explain_call",
    "load_book",
    "price_batch",
]
