// Small help for making SVG by hand.

import type { NodeState } from "../protocol";

const SVG = "http://www.w3.org/2000/svg";

export function element<Tag extends keyof SVGElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, string | number> = {},
  ...children: SVGElement[]
): SVGElementTagNameMap[Tag] {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/** Set it only where it differs: the same value again costs a style pass. */
export function put(target: Element, name: string, value: string): void {
  if (target.getAttribute(name) !== value) {
    target.setAttribute(name, value);
  }
}

export function write(target: Element, text: string): void {
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

/** In the node's colours; style.setProperty lets nothing but a value in. */
export function paint(target: SVGElement, node: NodeState | null): void {
  for (const [name, value] of [
    ["--hl-node", node?.colour ?? ""],
    ["--hl-node-ink", node?.ink ?? ""],
  ] as const) {
    if (target.style.getPropertyValue(name) !== value) {
      target.style.setProperty(name, value);
    }
  }
}
