"""What can be seen of a file without downloading it."""

from typing import Literal

from tesra.wire.common import Answer


class PreviewImage(Answer):
    """An image made small: upright, without what a camera wrote about place and time."""

    format: str
    width: int
    height: int
    frames: int = 1
    thumbnail_type: Literal["image/png", "image/jpeg"]
    thumbnail: str  # base64


class PreviewColumn(Answer):
    name: str
    type: Literal["integer", "number", "boolean", "date", "text", "empty"]


class PreviewTable(Answer):
    """The first rows; types are those of these rows."""

    delimiter: str
    columns: list[PreviewColumn]
    rows: list[list[str]]


class PreviewTensor(Answer):
    name: str
    dtype: str
    shape: list[int]
    size_bytes: int


class PreviewTensors(Answer):
    """What the header of a safetensors file says; the first tensors by their place in the file."""

    count: int
    parameters: int
    size_bytes: int
    tensors: list[PreviewTensor]
    metadata: dict[str, str] = {}


class Preview(Answer):
    """One file. ``kind`` says which of the parts are there; a ``binary`` file has none.

    ``truncated``: the text, the rows or the tensors are the first ones, not all. ``html`` is
    Markdown rendered and made safe: no scripts, no styles, no images.
    """

    path: str
    name: str
    size_bytes: int
    kind: Literal["image", "text", "csv", "markdown", "tensors", "binary"]
    truncated: bool = False
    encoding: str | None = None
    text: str | None = None
    html: str | None = None
    table: PreviewTable | None = None
    image: PreviewImage | None = None
    tensors: PreviewTensors | None = None
