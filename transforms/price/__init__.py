"""Prices: an effective-dated price book and the exact cost of each call.

``load_book`` reads and compiles the book, ``price_batch`` prices a batch of calls, ``explain`` shows the sum for one.
"""

from transforms.price.book import Book, Key, book_rows, load_book
from transforms.price.explain import Explanation, Line, explain
from transforms.price.fields import BookError
from transforms.price.pricing import PricedColumns, price_batch

__all__ = [
    "Book",
    "BookError",
    "Explanation",
    "Key",
    "Line",
    "PricedColumns",
    "book_rows",
    "explain",
    "load_book",
    "price_batch",
]
