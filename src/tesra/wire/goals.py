"""Whether less or more of a metric is better, as its name says. Pure."""

import re
from typing import Literal

Mode = Literal["min", "max"]

_LESS = re.compile(
    r"loss|err|error|mse|mae|rmse|mape|nll|ppl|perplexity|wer|cer|fid|cost|latency|time", re.I
)
_MORE = re.compile(
    r"acc|accuracy|f1|auc|auroc|ap|map|precision|recall|bleu|rouge|reward|return|iou|miou|dice|r2"
    r"|psnr|ssim|top\d*",
    re.I,
)


def mode_of(metric: str) -> Mode | None:
    """Whether less or more of it is better, by its name; None when the name does not say."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", metric) if word]
    less = any(_LESS.fullmatch(word) for word in words)
    more = any(_MORE.fullmatch(word) for word in words)
    if less == more:
        return None
    return "min" if less else "max"
