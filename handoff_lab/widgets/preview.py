"""A look at a value: text, HTML of tables, images; all of bounded size, whatever the value does when it is asked."""

from __future__ import annotations

import base64
import io
import reprlib
import sys
from typing import Any, TypedDict

TEXT_LIMIT = 10_000  # characters
HTML_LIMIT = 200_000
IMAGE_LIMIT = 1_000_000  # bytes, before they are encoded
PIXELS = 640  # along the longer side
ROWS, COLUMNS = 20, 20  # of a table

_BOUNDED = (str, bytes, int, list, tuple, dict, set, frozenset)  # other reprs are short, or abridge themselves
_short = reprlib.Repr()
_short.maxlevel = 4
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = _short.maxarray = 30
_short.maxstring = _short.maxlong = 2000
_short.maxother = TEXT_LIMIT


class Preview(TypedDict):
    """What the browser shows of a value."""

    type: str
    text: str
    nbytes: int | None
    html: str | None
    image: str | None


def preview(value: Any, nbytes: int | None = None) -> Preview:
    """Look at ``value``; what it cannot show is left out.

    Examples
    --------
    >>> preview([1, 2, 3])["text"]
    '[1, 2, 3]'
    """
    return Preview(
        type=_type_name(value),
        text=_text(value),
        nbytes=nbytes,
        html=_guarded(_html, value),
        image=_guarded(_image, value),
    )


def short_repr(value: Any, longest: int = 80) -> str:
    """The value in one line."""
    try:
        shape = getattr(value, "shape", None)
        text = _shape(value) if isinstance(shape, tuple) else " ".join(_short.repr(value).split())
    except Exception:
        text = f"<{_type_name(value)}>"
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _type_name(value: Any) -> str:
    kind = type(value)
    module = str(kind.__module__)
    return (
        kind.__qualname__ if module in ("builtins", "__main__") else f"{module.partition('.')[0]}.{kind.__qualname__}"
    )


def _text(value: Any) -> str:
    try:
        text = _short.repr(value) if isinstance(value, _BOUNDED) else repr(value)
        if isinstance(getattr(value, "shape", None), tuple):
            text = f"{_shape(value)}\n{text}"
    except Exception as error:
        return f"<{_type_name(value)}> its repr raised {type(error).__name__}: {_cut(str(error), 200)}"
    return _cut(text, TEXT_LIMIT)


def _shape(value: Any) -> str:
    """``array (100, 3) float64``."""
    name = {"ndarray": "array"}.get(type(value).__name__, type(value).__name__)
    return f"{name} {value.shape} {getattr(value, 'dtype', '')}".rstrip()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _guarded(look: Any, value: Any) -> str | None:
    if isinstance(value, type):
        return None  # its methods want an instance
    try:
        text: str | None = look(value)
    except Exception:  # a value may do anything when it is asked; its text says enough
        return None
    return text


# -- HTML --------------------------------------------------------------------


def _html(value: Any) -> str | None:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        value = value.to_frame()
    if pandas is not None and isinstance(value, pandas.DataFrame):
        html = value.to_html(max_rows=ROWS, max_cols=COLUMNS, show_dimensions=True, border=0)
    elif hasattr(value, "_repr_html_"):
        html = value._repr_html_()
    else:
        return None
    return html if isinstance(html, str) and len(html) <= HTML_LIMIT else None


# -- images ------------------------------------------------------------------


def _image(value: Any) -> str | None:
    if _is_figure(value):
        return _uri("image/png", _drawn(value))
    picture = _as_picture(value)
    if picture is not None:
        return _uri("image/png", _thumbnail(picture))
    for mime, name in (("image/svg+xml", "_repr_svg_"), ("image/png", "_repr_png_"), ("image/jpeg", "_repr_jpeg_")):
        data = getattr(value, name)() if hasattr(value, name) else None
        data = data[0] if isinstance(data, tuple) else data  # with metadata
        if data:
            return _uri(mime, data.encode() if mime == "image/svg+xml" else data)
    return None


def _uri(mime: str, data: bytes | str) -> str | None:
    if len(data) > IMAGE_LIMIT:
        return None
    text = data if isinstance(data, str) else base64.b64encode(data).decode()  # text is encoded already
    return f"data:{mime};base64,{text}"


def _is_figure(value: Any) -> bool:
    figure = sys.modules.get("matplotlib.figure")
    return figure is not None and isinstance(value, figure.Figure)


def _drawn(figure: Any) -> bytes:
    size = max(figure.get_size_inches())
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=min(100, PIXELS / size), bbox_inches="tight")
    return data.getvalue()


def _as_picture(value: Any) -> Any:
    """A PIL image of what is one: of PIL, or an array of bytes that is large enough to be a picture."""
    images = sys.modules.get("PIL.Image")
    if images is not None and isinstance(value, images.Image):
        return value.copy()
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray) or value.dtype != numpy.uint8:
        return None
    is_grey, is_colour = value.ndim == 2, value.ndim == 3 and value.shape[2] in (3, 4)
    if not (is_grey or is_colour) or min(value.shape[:2]) < 16:
        return None
    from PIL import Image

    step = max(1, max(value.shape[:2]) // (2 * PIXELS))
    return Image.fromarray(numpy.ascontiguousarray(value[::step, ::step]))


def _thumbnail(picture: Any) -> bytes:
    picture.thumbnail((PIXELS, PIXELS))
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return data.getvalue()
