// How full a node is with one resource: claimed and used of what it has.

import type { JSX } from "preact";

import type { NodeState, ResourceState } from "../protocol";
import { amount, unitOf } from "./format";

interface Props {
  node: NodeState;
  name: string;
  resource: ResourceState;
}

export function Gauge({ node, name, resource }: Props): JSX.Element {
  const { capability, claimed, used } = resource;
  const show = (value: number) => amount(name, value, capability);
  const unit = unitOf(name, capability);
  const measured = used === null ? "" : `, ${show(used)} used`;
  const text = `${show(claimed)} of ${show(capability)} ${unit} claimed${measured}`.replace("  ", " ");
  return (
    <div
      class="hl-gauge"
      role="meter"
      data-node={node.name}
      data-resource={name}
      aria-label={`${name} of ${node.name}`}
      aria-valuemin={0}
      aria-valuemax={capability}
      aria-valuenow={claimed}
      aria-valuetext={text}
      title={`${name}: ${text}`}
    >
      <span class="hl-gauge-name">{name}</span>
      <span class="hl-gauge-numbers">
        {used !== null && <span class="hl-gauge-measured">{show(used)} used · </span>}
        <b>{show(claimed)}</b> of {show(capability)} {unit}
      </span>
      <span class="hl-gauge-bar">
        <span class="hl-gauge-claimed" style={{ width: share(claimed, capability), color: node.colour }} />
        {used !== null && (
          <span
            class="hl-gauge-used"
            data-over={isOver(resource) ? "true" : undefined}
            style={{ width: share(used, capability), background: node.colour }}
          />
        )}
      </span>
    </div>
  );
}

function share(value: number, capability: number): string {
  return `${capability > 0 ? Math.min(100, (100 * value) / capability) : 0}%`;
}

/** More is used than was claimed; the little that a node takes when nothing runs there is no news. */
function isOver({ capability, claimed, used }: ResourceState): boolean {
  return used !== null && claimed > 0 && used > claimed * 1.05 && used > capability * 0.1;
}
