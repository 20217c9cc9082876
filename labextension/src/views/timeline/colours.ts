// The theme's colours, for a canvas, which knows no variables.

const NAMES = ["bg", "ink", "ink-soft", "ink-faint", "line", "line-strong", "accent", "alarm", "running"] as const;

export type Colours = Record<(typeof NAMES)[number], string> & { font: string };

export function readColours(within: HTMLElement): Colours {
  const probe = document.createElement("i");
  probe.hidden = true;
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

/** Calls back when the page changes to another theme; returns what ends it. */
export function onTheme(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  for (const element of [document.documentElement, document.body]) {
    observer.observe(element, { attributes: true, attributeFilter: ["class", "theme", "data-jp-theme-name"] });
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", callback);
  return () => {
    observer.disconnect();
    dark.removeEventListener("change", callback);
  };
}
