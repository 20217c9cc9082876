// What a bar is called, for the tooltip and screen readers.

import { statusWord } from "../../status";
import type { Store } from "../../store";
import { bytes, duration, moment } from "../format";
import type { Bar, Lanes } from "./lanes";

export function barText(store: Store, { lanes }: Lanes, bar: Bar): string {
  const id = store.structure?.ids[bar.at] ?? "";
  const lane = lanes[bar.lane]!;
  const place = `${store.live?.nodes[lane.node]?.name ?? ""}, slot ${lane.slot}`;
  const length = duration((bar.end ?? store.now()) - bar.start);
  const from = `from ${moment(bar.start)}`;
  if (bar.kind === "transfer") {
    return `result of ${id} comes to ${store.live?.nodes[lane.node]?.name}: ${bytes(bar.number)} in ${length}, ${from}`;
  }
  if (bar.kind === "planned") {
    return `${id} planned on ${place}: ${length}, ${from}`;
  }
  const attempt = bar.kind === "earlier" || bar.number > 1 ? `, attempt ${bar.number}` : "";
  return `${id} ${statusWord(bar.status)} on ${place}: ${length}, ${from}${attempt}`;
}
