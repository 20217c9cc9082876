// Which part of the graph is seen: x and y are where its top left corner lies in the view. Pure.

export interface Camera {
  x: number;
  y: number;
  scale: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface Box extends Size {
  left: number;
  top: number;
}

const LEAST = 0.03;
const MOST = 4;
const MOST_FIT = 1.1;
const LEGIBLE = 0.55;
const MARGIN = 16;
const TOOLS = 36;

/** All of `graph` in the middle of `view`, beside the tools. */
export function fit(graph: Size, view: Size): Camera {
  const room = { width: view.width - 2 * MARGIN - TOOLS, height: view.height - 2 * MARGIN };
  const scale = Math.max(Math.min(room.width / graph.width, room.height / graph.height, MOST_FIT), LEAST);
  return {
    x: MARGIN + (room.width - graph.width * scale) / 2,
    y: (view.height - graph.height * scale) / 2,
    scale,
  };
}

/** What is seen first: all of it, but of a long thin graph its beginning, legibly. */
export function first(graph: Size, view: Size): Camera {
  const all = fit(graph, view);
  const [long, short] = [Math.max(graph.width, graph.height), Math.min(graph.width, graph.height)];
  if (all.scale >= LEGIBLE || long < 4 * short) {
    return all;
  }
  const scale = Math.max(all.scale, Math.min(LEGIBLE + 0.2, (Math.min(view.width, view.height) - 2 * MARGIN) / short));
  return {
    x: Math.max((view.width - graph.width * scale) / 2, MARGIN),
    y: Math.max((view.height - graph.height * scale) / 2, MARGIN),
    scale,
  };
}

/** Nearer by `factor`, with what is at (x, y) of the view staying there. */
export function zoom(camera: Camera, factor: number, x: number, y: number): Camera {
  const scale = Math.min(Math.max(camera.scale * factor, LEAST), MOST);
  const real = scale / camera.scale;
  return { x: x - (x - camera.x) * real, y: y - (y - camera.y) * real, scale };
}

/** Moved, but so that some of the graph stays in sight. */
export function pan(camera: Camera, dx: number, dy: number, graph: Size, view: Size): Camera {
  return {
    x: keep(camera.x + dx, graph.width * camera.scale, view.width),
    y: keep(camera.y + dy, graph.height * camera.scale, view.height),
    scale: camera.scale,
  };
}

function keep(at: number, length: number, room: number): number {
  const inSight = Math.min(60, length / 2, room / 2);
  return Math.min(Math.max(at, inSight - length), room - inSight);
}

/** The least move after which `box` of the graph is in sight. */
export function reveal(camera: Camera, box: Box, view: Size): Camera {
  return {
    x: camera.x + shift(camera.x + box.left * camera.scale, box.width * camera.scale, view.width),
    y: camera.y + shift(camera.y + box.top * camera.scale, box.height * camera.scale, view.height),
    scale: camera.scale,
  };
}

function shift(start: number, length: number, room: number): number {
  const end = start + length;
  if (start < MARGIN) {
    return MARGIN - start;
  }
  return end > room - MARGIN ? Math.max(room - MARGIN - end, MARGIN - start) : 0;
}

/** The part of the graph that is in sight. */
export function sight(camera: Camera, view: Size): Box {
  return {
    left: -camera.x / camera.scale,
    top: -camera.y / camera.scale,
    width: view.width / camera.scale,
    height: view.height / camera.scale,
  };
}
