// The theme of the page.

const SHEETS_MS = 300;

/** Calls back when the page changes to another theme, and when its style sheets have come; returns what ends it. */
export function onTheme(callback: () => void): () => void {
  let later: ReturnType<typeof setTimeout> | undefined;
  const change = () => {
    clearTimeout(later);
    later = setTimeout(callback, SHEETS_MS);
    callback();
  };
  const observer = new MutationObserver(change);
  for (const element of [document.documentElement, document.body]) {
    observer.observe(element, { attributes: true, attributeFilter: ["class", "theme", "data-jp-theme-name"] });
  }
  const queries = ["(prefers-color-scheme: dark)", "(forced-colors: active)"].map((query) => matchMedia(query));
  queries.forEach((query) => query.addEventListener("change", change));
  return () => {
    clearTimeout(later);
    observer.disconnect();
    queries.forEach((query) => query.removeEventListener("change", change));
  };
}
