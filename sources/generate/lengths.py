"""How long texts are: log-normal shapes fitted to public traces of production traffic.

Spreads are those of the traces, medians are our apps' (scaled down, so that a mean record has a few kilobytes):

* answers: Mooncake conversation trace (Kimi, first 30 minutes): 34 % with median 54 and sigma 1.63, and 66 % with
  median 415 and sigma 0.34;
* context (retrieved chunks, attachments): the same trace's inputs, sigma 1.21; Azure 2023 code inputs have 1.36;
* tool answers and short generated text: outputs of the Azure 2023 code trace, sigma 0.85.
"""

from __future__ import annotations

import random
from math import exp
from typing import Final

_SHORT_SHARE: Final = 0.34
_SHORT_RATIO: Final = 54 / 415
_SHORT_SIGMA: Final = 1.63
_LONG_SIGMA: Final = 0.34
_INPUT_SIGMA: Final = 1.21
_QUESTION_SIGMA: Final = 0.85


def lognormal(rng: random.Random, median: float, sigma: float, most: float) -> float:
    """A log-normal draw of the given median, cut at ``most``."""
    return min(median * exp(rng.normalvariate(0.0, sigma)), most)


def answer(rng: random.Random, median: float) -> float:
    """Tokens of an answer; ``median`` is that of the longer two thirds."""
    if rng.random() < _SHORT_SHARE:
        return lognormal(rng, median * _SHORT_RATIO, _SHORT_SIGMA, median * 12)
    return lognormal(rng, median, _LONG_SIGMA, median * 12)


def context(rng: random.Random, median: float) -> float:
    """Tokens of retrieved or attached text."""
    return lognormal(rng, median, _INPUT_SIGMA, median * 25)


def question(rng: random.Random, median: float) -> float:
    """Tokens of what a person or a tool wrote."""
    return lognormal(rng, median, _QUESTION_SIGMA, median * 20)
