"""Points of a space at random. Pure: the same seed and number give the same point, whatever was before."""

import math
from random import Random

from tesra.kit.values import Value
from tesra.wire.space import Choice, Distribution, Real, Space, Whole


def random_point(space: Space, *, seed: int, number: int) -> dict[str, Value]:
    """The point of the trial with this number, from 0 on."""
    dice = Random(f"{seed}:{number}")  # noqa: S311 - to be repeated, not a secret
    return {name: _drawn(dice, one) for name, one in space.items()}


def _drawn(dice: Random, one: Distribution) -> Value:
    match one:
        case Choice(options=options):
            return dice.choice(options)
        case Whole(low=low, high=high, log=True):  # each end as wide as any other number
            drawn = dice.uniform(math.log(low - 0.5), math.log(high + 0.5))
            return min(max(round(math.exp(drawn)), low), high)
        case Real(low=low, high=high, log=True):
            return min(max(math.exp(dice.uniform(math.log(low), math.log(high))), low), high)
        case Whole(low=low, high=high, step=step):
            return dice.randrange(low, high + 1, step)
        case Real(low=low, high=high, step=float(step)):
            return float(f"{low + dice.randint(0, round((high - low) / step)) * step:.15g}")
        case Real(low=low, high=high):
            return dice.uniform(low, high)
