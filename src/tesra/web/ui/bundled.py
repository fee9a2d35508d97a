"""What an installation brings along beside its code: the demo project, the help.

In a checkout it stands where its authors keep it; a wheel has it inside the package
(``force-include`` in pyproject.toml), so that there is one copy of each.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
_CHECKOUT = _PACKAGE.parents[1]
_PLACES = {"demo": "examples/pytorch-digits", "docs": "docs"}


def bundled(name: str) -> Path:
    """The folder called ``demo`` or ``docs``."""
    inside = _PACKAGE / "bundled" / name
    return inside if inside.is_dir() else _CHECKOUT / _PLACES[name]
