"""Count every text with its model's own tokenizer, once, and leave counts and hashes where the text was."""

from transforms.count.counting import Counter
from transforms.count.counting import Settings as CountSettings

__all__ = ["CountSettings", "Counter"]
