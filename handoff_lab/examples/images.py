"""The distributed image pipeline of Handoff: its steps as plain functions, and the DAG that they form.

Each photo is loaded, resized and put through four effects; then all are judged and laid out on one
sheet. The steps know nothing of nodes or costs: those stand in `pipeline`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from handoff_lab.examples.photos import Pixels, photo
from handoff_lab.graph import DAG, Function

Light = npt.NDArray[np.float32]
Quality = dict[str, dict[str, float]]  # effect -> measure -> value

EFFECTS = ("grayscale", "sepia", "blur", "edges")
_SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], dtype=np.float32)
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def load(index: int, size: tuple[int, int]) -> Pixels:
    """Photo number ``index``, read from its JPEG file: height × width × 3 bytes."""
    with Image.open(io.BytesIO(photo(index, size))) as image:
        return np.asarray(image.convert("RGB"))


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The photo in (width, height) pixels."""
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def grayscale(pixels: Pixels) -> Pixels:
    """Shades of grey, as the eye weighs the colours (ITU-R BT.709), mixed as light mixes."""
    return _as_pixels(_repeat(_light(pixels) @ _LUMA))


def sepia(pixels: Pixels) -> Pixels:
    """The brown of old prints, darker towards the corners."""
    height, width = pixels.shape[:2]
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    vignette = 1 - 0.35 * (x**2 + y**2)
    return _as_pixels(_light(pixels) @ _SEPIA.T * vignette[..., None])


def blur(pixels: Pixels, radius: int = 9) -> Pixels:
    """Out of focus, as a lens does it: each point of light becomes a disc of ``radius`` pixels."""
    height, width = pixels.shape[:2]
    light = np.pad(_light(pixels), ((radius, radius), (radius + 1, radius), (0, 0)), mode="edge")
    along = np.cumsum(light, axis=1, dtype=np.float64)  # the sum of any stretch of a row is one difference
    total, count = np.zeros(pixels.shape), 0
    for down in range(-radius, radius + 1):
        half = int(np.sqrt(radius**2 - down**2))
        rows = along[radius + down : radius + down + height]
        start = radius - half
        total += rows[:, start + 2 * half + 1 :][:, :width] - rows[:, start:][:, :width]
        count += 2 * half + 1
    return _as_pixels(total / count)


def edges(pixels: Pixels, scales: Sequence[float] = (1, 2, 4)) -> Pixels:
    """Where brightness changes: the longest Sobel gradient over several degrees of smoothing."""
    image = Image.fromarray(pixels).convert("L")
    smooth = (np.asarray(image.filter(ImageFilter.GaussianBlur(scale)), dtype=np.float32) for scale in scales)
    strongest = np.max([scale * _gradient(grey) for scale, grey in zip(scales, smooth, strict=True)], axis=0)
    return np.clip(_repeat(strongest), 0, 255).astype(np.uint8)


def thumbnail(pixels: Pixels, width: int = 320) -> Pixels:
    """A small picture of the same proportions."""
    height = round(pixels.shape[0] * width / pixels.shape[1])
    return resize(pixels, (width, height))


def quality(*effects: Pixels) -> Quality:
    """Sharpness (variance of the Laplacian), contrast and brightness of each effect's picture."""
    return {name: _measure(pixels) for name, pixels in zip(EFFECTS, effects, strict=True)}


def quality_report(qualities: Sequence[Quality]) -> str:
    """A table of all photos: one line for each photo and effect."""
    lines = [f"{'photo':<6} {'effect':<10} {'sharpness':>10} {'contrast':>9} {'brightness':>11}"]
    for number, effects in enumerate(qualities, 1):
        lines += [
            f"{number:<6} {name:<10} {m['sharpness']:>10.1f} {m['contrast']:>9.1f} {m['brightness']:>11.1f}"
            for name, m in effects.items()
        ]
    return "\n".join(lines)


def collage(pictures: Sequence[Pixels], columns: int, gap: int = 8) -> Pixels:
    """All pictures on one sheet, row by row, each as large as the first."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        y, x = gap + row * (height + gap), gap + column * (width + gap)
        sheet[y : y + height, x : x + width] = resize(picture, (width, height))
    return sheet


def png(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step costs and, for planning, how long it takes."""

    code: Callable[..., Any]
    cost: dict[str, float]
    seconds: float  # for each megapixel that goes in, on one core of a small machine


_STEPS = {
    "load": _Step(load, {"cpu": 1, "memory": 400}, 0.06),
    "resize": _Step(resize, {"cpu": 1, "memory": 300}, 0.013),
    "thumbnail": _Step(thumbnail, {"cpu": 1, "memory": 100}, 0.01),
    "grayscale": _Step(grayscale, {"cpu": 1, "memory": 250}, 0.02),
    "sepia": _Step(sepia, {"cpu": 1, "memory": 300}, 0.03),
    "blur": _Step(blur, {"cpu": 1, "memory": 400, "fpga": 1}, 0.32),
    "edges": _Step(edges, {"cpu": 1, "memory": 300, "gpu": 1}, 0.05),
    "quality": _Step(quality, {"cpu": 2, "memory": 600}, 0.09),
    "quality_report": _Step(quality_report, {"cpu": 1, "memory": 50}, 0.0),
    "collage": _Step(collage, {"cpu": 2, "memory": 800}, 0.04),
}


def pipeline(n_images: int = 4, size: tuple[int, int] = (1600, 1200)) -> DAG:
    """The pipeline over ``n_images`` photos as a DAG with costs and estimates.

    It needs a node with a ``gpu`` for the edges and one with an ``fpga`` for the blur; both only
    count here, the work is done by the processor. Photos are half as large again as the ``size``
    (width, height) to which they are resized. What to look at in the end: ``collage`` (an array, height ×
    width × 3) and ``quality_report`` (text).

    Examples
    --------
    >>> dag = pipeline(n_images=2)
    >>> len(dag.functions), dag.dependencies("edges_1")
    (18, ('resize_1',))
    """
    dag = DAG("images")
    for number in range(1, n_images + 1):
        dag.add(*_photo_functions(number, size))
    numbers = range(1, n_images + 1)
    sheet = [f"{step}_{n}" for n in numbers for step in ("thumbnail", *EFFECTS)]
    every = [f"quality_{n}" for n in numbers]
    mpx = n_images * _megapixels(size)
    gathered: dict[str, Any] = {"argument_inclusion": "as_list"}
    return dag.add(
        _function("quality_report", "quality_report", every, mpx, 4000, **gathered),
        _function("collage", "collage", sheet, mpx, 2e6 * n_images, kwargs={"columns": 5}, **gathered),
    )


def _photo_functions(number: int, size: tuple[int, int]) -> list[Function]:
    taken = (size[0] * 3 // 2, size[1] * 3 // 2)
    raw, mpx = _megapixels(taken), _megapixels(size)
    pixels = mpx * 3e6
    here = f"photo {number}"
    small = f"resize_{number}"
    return [
        _function("load", f"load_{number}", [], raw, raw * 3e6, extra_args=[number, taken], group=here),
        _function("resize", small, [f"load_{number}"], raw, pixels, extra_args=[size], group=here),
        _function("thumbnail", f"thumbnail_{number}", [small], mpx, 2.5e5, group=here),
        *(_function(effect, f"{effect}_{number}", [small], mpx, pixels, group=here) for effect in EFFECTS),
        _function("quality", f"quality_{number}", [f"{effect}_{number}" for effect in EFFECTS], mpx, 500, group=here),
    ]


def _function(step: str, id: str, args: list[str], mpx: float, nbytes: float, **options: Any) -> Function:
    made = _STEPS[step]
    return Function(id, made.code, args, cost=made.cost, duration=made.seconds * mpx, output_size=nbytes, **options)


def _megapixels(size: tuple[int, int]) -> float:
    return size[0] * size[1] / 1e6


def _light(pixels: Pixels) -> Light:
    """Amounts of light, 0 to 1: what a camera stores is bent by a gamma of 2.2."""
    return np.power(pixels.astype(np.float32) / 255, 2.2, dtype=np.float32)


def _as_pixels(light: npt.NDArray[np.floating[Any]]) -> Pixels:
    pixels: Pixels = (np.clip(light, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    return pixels


def _repeat(grey: npt.NDArray[np.floating[Any]]) -> Light:
    """One value for red, green and blue."""
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)


def _gradient(grey: Light) -> Light:
    padded = np.pad(grey, 1, mode="edge")
    across, down = padded[:, 2:] - padded[:, :-2], padded[2:] - padded[:-2]
    gx = across[:-2] + 2 * across[1:-1] + across[2:]
    gy = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    length: Light = np.hypot(gx, gy)
    return length


def _measure(pixels: Pixels) -> dict[str, float]:
    grey = pixels.mean(axis=2)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return {
        "sharpness": float(laplacian.var()),
        "contrast": float(grey.std()),
        "brightness": float(grey.mean()),
    }
