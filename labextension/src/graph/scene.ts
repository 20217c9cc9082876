// The picture of a layout: made once, then only what changed is touched, at most once per frame.

import { Adjacency } from "../adjacency";
import type { Layout, Shape } from "../protocol";
import type { Store } from "../store";
import type { Box } from "./camera";
import { FunctionCard, type ShapeView } from "./card";
import { drawEdges } from "./edges";
import { emphasised } from "./emphasis";
import { FoldCard } from "./fold_card";
import { drawCluster, drawUnfold } from "./groups";
import { element } from "./svg";

const RING = 4;

export class Scene {
  readonly picture: SVGSVGElement;
  readonly edges: Adjacency;
  /** Per function: the shape that shows it, or -1. */
  readonly shapeOf: Int32Array;
  private readonly views: ShapeView[];
  private readonly trail = element("g", { class: "hl-trail" });
  private readonly ring = element("rect", { class: "hl-ring", rx: 9, visibility: "hidden" });
  private readonly tip = element("title");
  private readonly dirty = new Set<number>();
  private readonly outstanding = new Set<number>();
  private readonly ends: (() => void)[];
  private emphasisDue = true;
  private frame = 0;
  private hovered = -1;
  private ringed = -1;

  constructor(
    private readonly store: Store,
    readonly layout: Layout,
    font: string,
  ) {
    const { shapes, curves } = layout;
    const dependencies = curves.filter((curve) => curve.kind !== "collocated");
    this.edges = new Adjacency(
      shapes.length,
      dependencies.flatMap(({ from, to }) => [from, to]),
    );
    this.shapeOf = new Int32Array(store.size).fill(-1);
    shapes.forEach((shape, at) => shape.members.forEach((member) => (this.shapeOf[member] = at)));
    this.views = shapes.map((shape) => this.view(shape, font));
    this.picture = this.draw();
    this.ends = [
      store.subscribe(["functions"], (changed) => this.touch(changed)),
      store.subscribe(["nodes", "run", "connection"], () => this.touch([])),
      store.subscribe(["view"], () => this.emphasiseSoon()),
      store.subscribe(["clock"], () => this.tick()),
    ];
    this.flush();
  }

  dispose(): void {
    this.ends.forEach((end) => end());
    cancelAnimationFrame(this.frame);
  }

  root(shape: number): SVGGElement | undefined {
    return this.views[shape]?.root;
  }

  /** The shape of an element in it, or -1. */
  shapeAt(target: EventTarget | null): number {
    const root = target instanceof Element ? target.closest<SVGGElement>(".hl-fn") : null;
    return Number(root?.dataset["shape"] ?? -1);
  }

  box(shape: number): Box {
    const { x, y, width, height } = this.layout.shapes[shape]!;
    return { left: x - width / 2, top: y - height / 2, width, height };
  }

  /** What comes before and after `shape` stands out; -1 ends it. */
  hover(shape: number): void {
    if (shape !== this.hovered) {
      this.hovered = shape;
      const root = this.root(shape);
      this.tip.textContent = root?.getAttribute("aria-label") ?? "";
      root?.append(this.tip);
      this.emphasiseSoon();
    }
  }

  private view(shape: Shape, font: string): ShapeView {
    const view = new (shape.kind === "function" ? FunctionCard : FoldCard)(this.store, shape, font);
    if (shape.kind === "group") {
      view.root.append(drawUnfold(shape, this.store.structure?.group[shape.members[0]!] ?? -1));
    }
    return view;
  }

  private draw(): SVGSVGElement {
    const { width, height, clusters, curves } = this.layout;
    const groups = this.store.structure?.groups ?? [];
    const frames = clusters.map((cluster) => drawCluster(cluster, groups[cluster.group] ?? ""));
    const roots = this.views.map(({ root }) => root);
    roots.forEach((root, shape) => (root.dataset["shape"] = String(shape)));
    return element(
      "svg",
      { class: "hl-picture", width, height, viewBox: `0 0 ${width} ${height}` },
      element("g", { class: "hl-clusters" }, ...frames),
      element("g", { class: "hl-edges" }, ...drawEdges(curves, "hl-edge")),
      this.trail,
      this.ring,
      element("g", { class: "hl-shapes" }, ...roots),
    );
  }

  private touch(functions: number[] | null): void {
    if (functions === null) {
      this.views.forEach((_, shape) => this.dirty.add(shape));
    } else {
      functions.forEach((at) => this.dirty.add(this.shapeOf[at] ?? -1));
    }
    this.emphasiseSoon();
  }

  /** Running functions show how long they run. */
  private tick(): void {
    this.layout.shapes.forEach(({ kind, members }, shape) => {
      if (kind === "function" && this.store.status(members[0]!) === "r") {
        this.dirty.add(shape);
      }
    });
    this.flushSoon();
  }

  private emphasiseSoon(): void {
    this.emphasisDue = true;
    this.flushSoon();
  }

  private flushSoon(): void {
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  private flush(): void {
    this.frame = 0;
    this.dirty.forEach((shape) => this.views[shape]?.update());
    this.dirty.clear();
    if (this.emphasisDue) {
      this.emphasisDue = false;
      this.emphasise();
      this.drawRing();
    }
  }

  private emphasise(): void {
    const wanted = emphasised(this.store, this.layout.shapes, this.edges, this.hovered);
    this.picture.classList.toggle("hl-dimmed", wanted !== null);
    for (const shape of this.outstanding) {
      if (!wanted?.has(shape)) {
        this.outstanding.delete(shape);
        this.root(shape)?.classList.remove("hl-on");
      }
    }
    for (const shape of wanted ?? []) {
      if (!this.outstanding.has(shape)) {
        this.outstanding.add(shape);
        this.root(shape)?.classList.add("hl-on");
      }
    }
    this.drawTrail(wanted);
  }

  /** The edges along the path, drawn over the others. */
  private drawTrail(wanted: Set<number> | null): void {
    if (this.hovered < 0 || !wanted) {
      this.trail.replaceChildren();
      return;
    }
    const up = this.edges.up(this.hovered).add(this.hovered);
    const down = this.edges.down(this.hovered).add(this.hovered);
    const along = this.layout.curves.filter(
      ({ from, to }) => (up.has(from) && up.has(to)) || (down.has(from) && down.has(to)),
    );
    this.trail.replaceChildren(...drawEdges(along, "hl-trail-edge"));
  }

  private drawRing(): void {
    const shape = this.shapeOf[this.store.ui.selected] ?? -1;
    if (shape === this.ringed) {
      return;
    }
    this.root(this.ringed)?.removeAttribute("aria-current");
    this.root(shape)?.setAttribute("aria-current", "true");
    this.ringed = shape;
    this.ring.setAttribute("visibility", shape < 0 ? "hidden" : "visible");
    if (shape >= 0) {
      const { left, top, width, height } = this.box(shape);
      this.ring.setAttribute("transform", `translate(${left - RING} ${top - RING})`);
      this.ring.setAttribute("width", String(width + 2 * RING));
      this.ring.setAttribute("height", String(height + 2 * RING));
    }
  }
}
