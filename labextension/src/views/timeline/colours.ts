// The theme's colours, for a canvas, which knows no variables.

const NAMES = ["bg", "ink", "ink-soft", "ink-faint", "line", "line-strong", "accent", "alarm", "running"] as const;

export type Colours = Record<(typeof NAMES)[number], string> & { font: string };

export function readColours(within: HTMLElement): Colours {
  const probe = document.createElement("i");
  probe.hidden = true;
  probe.style.forcedColorAdjust = "none"; // else every colour is that of text
  within.append(probe);
  const style = getComputedStyle(probe);
  const colours = Object.fromEntries(
    NAMES.map((name) => {
      probe.style.color = `var(--hl-${name})`;
      return [name, style.color];
    }),
  );
  const font = style.fontFamily;
  probe.remove();
  return { ...colours, font } as Colours;
}
