// HTML that others wrote: a look at a result, and source with highlighting.

import DOMPurify, { type DOMPurify as Purifier } from "dompurify";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";

import { allows } from "./harmless";

// Styles would reach out of it; so would data attributes, by which JupyterLab runs commands on a click.
const RULES = {
  FORBID_TAGS: ["style", "form", "input", "button", "select", "textarea", "dialog", "audio", "video"],
  ALLOW_DATA_ATTR: false,
};

let purifier: Purifier | null = null;

interface Props {
  html: string;
  class: string;
  label: string;
}

/** Without what could act, load something, or lead away from the page. */
export function Html({ html, class: name, label }: Props): JSX.Element {
  const clean = useMemo(() => {
    purifier ??= makePurifier();
    return purifier.sanitize(html, RULES);
  }, [html]);
  return <div class={name} role="group" aria-label={label} tabIndex={0} dangerouslySetInnerHTML={{ __html: clean }} />;
}

/** Of its own, for other extensions of the page may share the usual one, and its hooks. */
function makePurifier(): Purifier {
  const made = DOMPurify(window);
  made.addHook("uponSanitizeAttribute", (element, attribute) => {
    attribute.keepAttr = allows(element.nodeName.toLowerCase(), attribute.attrName, attribute.attrValue);
  });
  made.addHook("afterSanitizeAttributes", (element) => {
    if (element.hasAttribute("href")) {
      element.setAttribute("target", "_blank");
      element.setAttribute("rel", "noopener noreferrer");
    }
  });
  return made;
}
