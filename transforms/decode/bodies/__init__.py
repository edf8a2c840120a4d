"""Bodies of vendors' APIs: one module for each, with ``request``, ``response`` and what they fill in a call."""
