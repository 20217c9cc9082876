"""Photographs that nobody took: skies, suns, hills, grain and a caption, the same for the same number."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]

_SKIES = (((24, 42, 92), (250, 170, 110)), ((70, 130, 190), (220, 235, 245)), ((40, 20, 70), (240, 120, 140)))
_CAPTIONS = ("dawn", "noon", "dusk", "midsummer", "first snow", "harvest")


def photo(index: int, size: tuple[int, int] = (1200, 900)) -> bytes:
    """A JPEG file of a landscape; ``index`` chooses it, ``size`` is (width, height) in pixels.

    Examples
    --------
    >>> photo(1, (64, 48))[:2].hex()  # the mark with which every JPEG begins
    'ffd8'
    """
    rng = np.random.default_rng(index)
    image = Image.fromarray(_sky(index, size))
    draw = ImageDraw.Draw(image)
    _sun(draw, rng, size)
    for depth in range(4):
        _hills(draw, rng, size, depth)
    _caption(draw, f"{index}  {_CAPTIONS[index % len(_CAPTIONS)]}", size)
    file = io.BytesIO()
    Image.fromarray(_grain(np.asarray(image), rng)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _sky(index: int, size: tuple[int, int]) -> Pixels:
    top, bottom = (np.array(colour, dtype=np.float32) for colour in _SKIES[index % len(_SKIES)])
    width, height = size
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - down) + bottom * down, (height, width, 3)).astype(np.uint8)


def _sun(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int]) -> None:
    width, height = size
    radius = 0.08 * height
    x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.45) * height
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 236, 170))


def _hills(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], depth: int) -> None:
    width, height = size
    x = np.linspace(0, 1, 80)
    waves = [rng.uniform(0.01, 0.05) * np.sin(x * rng.uniform(4, 16) + rng.uniform(0, 6)) for _ in range(3)]
    y = (0.5 + 0.12 * depth + np.sum(waves, axis=0)) * height
    shade = 110 - 24 * depth
    outline = [(float(a), float(b)) for a, b in zip(x * width, y, strict=True)]
    draw.polygon([*outline, (width, height), (0, height)], fill=(shade // 2, shade, shade // 2 + 20))


def _caption(draw: ImageDraw.ImageDraw, text: str, size: tuple[int, int]) -> None:
    width, height = size
    draw.text((0.04 * width, 0.88 * height), text, fill="white", font=ImageFont.load_default(0.06 * height))


def _grain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The noise of a sensor: one tile of it, laid over the picture again and again."""
    height, width = pixels.shape[:2]
    tile = rng.normal(0, 6, (256, 256)).astype(np.int16)
    noise = np.tile(tile, (-(-height // 256), -(-width // 256)))[:height, :width, None]
    grainy: Pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return grainy
