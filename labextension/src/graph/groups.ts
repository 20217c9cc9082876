// Frames around groups, and the buttons that fold and unfold them.

import type { Cluster, Shape } from "../protocol";
import type { Store } from "../store";
import { element } from "./svg";

export function drawCluster(cluster: Cluster, name: string): SVGGElement {
  const { left, top, width, height, group } = cluster;
  const label = element("text", { class: "hl-cluster-name", x: left + 27, y: top + 15 });
  label.textContent = name;
  return element(
    "g",
    { class: "hl-cluster" },
    element("rect", { class: "hl-cluster-frame", x: left, y: top, width, height, rx: 8 }),
    label,
    button("fold", group, `Fold ${name} (Space)`, "M-3.5 0h7", left + 14, top + 11),
  );
}

export function drawUnfold(shape: Shape, group: number): SVGGElement {
  const title = `Unfold ${shape.title} (Space)`;
  return button("unfold", group, title, "M-3.5 0h7M0 -3.5v7", -shape.width / 2, -shape.height / 2 + 2);
}

function button(action: string, group: number, title: string, icon: string, x: number, y: number): SVGGElement {
  const tip = element("title");
  tip.textContent = title;
  return element(
    "g",
    {
      class: "hl-fold-button",
      role: "button",
      "aria-label": title,
      "data-action": action,
      "data-group": group,
      transform: `translate(${x} ${y})`,
    },
    tip,
    element("circle", { r: 8 }),
    element("path", { d: icon }),
  );
}

/** Ask the kernel for the graph with `group` folded, or unfolded where it is. */
export function toggleGroup(store: Store, group: number): void {
  const folded = store.structure?.layout?.folded ?? [];
  const groups = folded.includes(group) ? folded.filter((other) => other !== group) : [...folded, group];
  void store.ask({ do: "fold", groups });
}
