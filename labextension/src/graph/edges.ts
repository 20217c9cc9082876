// Edges: all of one kind and width are one path, so that thousands of them cost a few elements.

import type { Curve } from "../protocol";
import { element } from "./svg";

const HEAD = 7;
const NUMBER = /-?\d+(?:\.\d+)?(?:e-?\d+)?/g;

/** Elements that show `curves`. */
export function drawEdges(curves: Curve[], className: string): SVGElement[] {
  const bundles = new Map<string, Curve[]>();
  for (const curve of curves) {
    const key = `${curve.kind} ${width(curve.count)}`;
    const bundle = bundles.get(key) ?? [];
    bundle.push(curve);
    bundles.set(key, bundle);
  }
  return [...bundles.values()].flatMap((bundle) => drawBundle(bundle, className));
}

function drawBundle(curves: Curve[], className: string): SVGElement[] {
  const { kind, count } = curves[0]!;
  const lines = element("path", {
    class: `${className} hl-${kind}`,
    d: curves.map((curve) => curve.path).join(""),
    "stroke-width": width(count),
  });
  if (kind === "collocated") {
    return [lines];
  }
  const size = HEAD + 1.5 * (width(count) - 1);
  const heads = element("path", {
    class: `${className}-head`,
    d: curves.map((curve) => head(curve.path, size)).join(""),
  });
  return [lines, heads];
}

/** Half steps: few different widths, few paths. */
function width(count: number): number {
  return 1 + Math.min(Math.round(Math.log2(count)), 8) / 2;
}

/** An arrow head where the path ends, along its last leg. */
export function head(path: string, size = HEAD): string {
  const numbers = (path.match(NUMBER) ?? []).map(Number);
  const [x = 0, y = 0] = numbers.slice(-2);
  const [fromX, fromY] = before(numbers, x, y);
  const length = Math.hypot(x - fromX, y - fromY) || 1;
  const [ux, uy] = [(x - fromX) / length, (y - fromY) / length];
  const [baseX, baseY] = [x - ux * size, y - uy * size];
  const [sideX, sideY] = [-uy * size * 0.45, ux * size * 0.45];
  const corners = [
    [x, y],
    [baseX + sideX, baseY + sideY],
    [baseX - sideX, baseY - sideY],
  ];
  return `M${corners.map(([left, top]) => `${left!.toFixed(1)} ${top!.toFixed(1)}`).join("L")}Z`;
}

/** The last point that is not the end itself. */
function before(numbers: number[], x: number, y: number): [number, number] {
  for (let at = numbers.length - 4; at >= 0; at -= 2) {
    const [otherX, otherY] = [numbers[at]!, numbers[at + 1]!];
    if (Math.hypot(x - otherX, y - otherY) > 0.5) {
      return [otherX, otherY];
    }
  }
  return [x, y - 1];
}
