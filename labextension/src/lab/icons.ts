// Handoff's mark: three functions of a graph, in the colour of the theme's other icons.

import { LabIcon } from "@jupyterlab/ui-components";

export const handoffIcon = new LabIcon({
  name: "handoff-lab:handoff",
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g fill="none">
    <g class="jp-icon3" stroke="#616161" stroke-width="2">
      <path d="M9 5.5h2.5a3 3 0 0 1 3 3V9M9 18.5h2.5a3 3 0 0 0 3-3V15"/>
      <rect x="2.5" y="2.5" width="6.5" height="6" rx="1.5"/>
      <rect x="2.5" y="15.5" width="6.5" height="6" rx="1.5"/>
    </g>
    <rect class="jp-icon3" fill="#616161" x="12" y="8.5" width="9.5" height="7" rx="1.5"/>
  </g>
</svg>`,
});
