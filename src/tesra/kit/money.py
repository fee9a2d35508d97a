"""Money and compute are integers: micro-yuan, micro-T, micro-T·H. No float ever touches a posting."""

from decimal import Decimal, InvalidOperation

from tesra.kit.errors import Invalid

MICROS = 1_000_000
FEN_MICROS = 10_000  # 1 fen = 0.01 yuan
MS_PER_HOUR = 3_600_000
MAX_AMOUNT_CNY = 10_000_000


class AmountInvalid(Invalid):
    """An amount is a positive number of yuan with at most two decimals."""


def parse_cny(text: str | int | float | Decimal) -> int:
    """Micro-yuan of an amount such as ``"10"`` or ``"0.50"``; at most two decimals, above zero."""
    try:
        amount = Decimal(str(text))
    except InvalidOperation as error:
        raise AmountInvalid(f"'{text}' is not an amount in yuan.") from error
    if not amount.is_finite() or not 0 < amount <= MAX_AMOUNT_CNY:
        raise AmountInvalid(f"'{text}' is not an amount above 0 and up to {MAX_AMOUNT_CNY} yuan.")
    if amount != amount.quantize(Decimal("0.01")):
        raise AmountInvalid(f"'{text}' has more than two decimals.")
    return int(amount * MICROS)


def format_cny(micros: int, places: int = 2) -> str:
    """``"0.50"`` for 500000; more places where a line must be shown exactly (6 = exact)."""
    return f"{Decimal(micros) / MICROS:.{places}f}"


def format_micros(micros: int) -> str:
    """An exact decimal without trailing zeros: ``"0.0417"`` for 41700, ``"0"`` for 0."""
    text = f"{Decimal(micros) / MICROS:.6f}".rstrip("0")
    return text.rstrip(".") or "0"


def ceil_to_fen(micros: int) -> int:
    """Round up to whole fen, as bills are."""
    return -(-micros // FEN_MICROS) * FEN_MICROS
