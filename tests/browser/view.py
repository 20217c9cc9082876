"""The live view of a run, in the page: what it shows, and its buttons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator

_SHAPES = """app => Object.fromEntries([...app.querySelectorAll("[data-part=graph] [data-function]")].map(
    ({dataset}) => [dataset.function, [dataset.status, dataset.node]]
))"""
# Colours as the eye meets them: what is see-through shows what is behind it.
_CONTRASTS = """app => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], behind) => [...[r, g, b].map((c, i) => c * a + behind[i] * (1 - a)), 1];
    const ground = element => {
        if (!element) return [255, 255, 255, 1];
        const colour = rgba(getComputedStyle(element).backgroundColor);
        return colour[3] === 1 ? colour : over(colour, ground(element.parentElement));
    };
    const light = colour => {
        const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (ink, behind) => {
        const [low, high] = [light(over(ink, behind)), light(behind)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const found = {};
    for (const element of app.querySelectorAll("*")) {
        const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("");
        const off = element.closest("[aria-disabled=true], .hl-hidden, .hl-unplaced, .hl-quiet");
        if (!text || off || !element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const box = element.closest(".hl-fn")?.querySelector(element.matches(".hl-letter") ? ".hl-stripe" : ".hl-box");
        const behind = box ? over(rgba(getComputedStyle(box).fill), ground(app)) : ground(element);
        const name = `${element.className.baseVal ?? element.className} ${text}`.trim();
        found[name] = ratio(rgba(element instanceof SVGElement ? style.fill : style.color), behind);
    }
    return found;
}"""


class View:
    """A live view; ``root`` is where to look for it: a cell's outputs, or the dashboard."""

    def __init__(self, root: Locator) -> None:
        self.app = root.locator(".hl-app").first

    def wait(self, status: str) -> None:
        """Wait until the run has this status: ``running``, ``done``, ``failed`` or ``cancelled``."""
        self.app.and_(self.app.page.locator(f'[data-run-status="{status}"]')).wait_for()

    def wait_functions(self, **statuses: str) -> None:
        """Wait until the graph shows these statuses of these functions."""
        for id, status in statuses.items():
            self.app.locator(f'[data-part="graph"] [data-function="{id}"][data-status="{status}"]').wait_for()

    def shapes(self) -> Mapping[str, tuple[str, str]]:
        """Status and node of each function, as the graph shows them."""
        return {id: (status, node) for id, (status, node) in self.app.evaluate(_SHAPES).items()}

    def function(self, id: str) -> Locator:
        """A function in the graph."""
        return self.part("graph").locator(f'[data-function="{id}"]')

    def row(self, id: str) -> Locator:
        """A function in the table."""
        return self.part("table").locator(f'[data-function="{id}"]')

    def part(self, name: str) -> Locator:
        return self.app.locator(f'[data-part="{name}"]')

    def button(self, action: str) -> Locator:
        return self.app.locator(f'[data-action="{action}"]').first

    def node(self, name: str) -> Locator:
        return self.part("nodes").get_by_role("article", name=f"node {name}")

    def details(self, text: str | re.Pattern[str]) -> Locator:
        """The details, once they say this."""
        details = self.part("details").filter(has_text=text)
        details.wait_for()
        return details

    def contrasts(self) -> Mapping[str, float]:
        """Contrast of each text against what is behind it, by its class and words; what is switched off is left out."""
        found: dict[str, float] = self.app.evaluate(_CONTRASTS)
        return found
