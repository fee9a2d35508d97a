"""Whether less or more of a metric is better, as its name says. Pure."""

import re
from typing import Literal

Mode = Literal["min", "max"]

_LESS = re.compile(
    r"loss|err|error|mse|mae|rmse|mape|nll|ppl|perplexity|wer|cer|fid|cost|latency|time"
    r"|(?:训练|验证|测试)?损失",
    re.I,
)
_MORE = re.compile(
    r"acc|accuracy|f1|auc|auroc|ap|map|precision|recall|bleu|rouge|reward|return|iou|miou|dice|r2"
    r"|psnr|ssim|top\d*|(?:训练|验证|测试)?(?:准确率|精度)",
    re.I,
)


def mode_of(metric: str) -> Mode | None:
    """Whether less or more of it is better, by its name; None when the name does not say."""
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", metric) if word]
    less = any(_LESS.fullmatch(word) for word in words)
    more = any(_MORE.fullmatch(word) for word in words)
    if less == more:
        return None
    return "min" if less else "max"
