"""A QR code as a picture that any page may hold: SVG without style and script of its own."""

import segno


def qr_svg(text: str, *, title: str | None = None) -> str:
    """The text's QR code, dark on white whatever is around it; as large as its place is."""
    code = segno.make(text, error="m", micro=False)
    return code.svg_inline(
        border=4,
        dark="#000",
        light="#fff",
        omitsize=True,
        title=title,
        svgclass="qr",
        lineclass=None,
    )
