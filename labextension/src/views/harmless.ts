// Which attributes of foreign HTML load nothing: a look at a result must not call out.

const ADDRESSES: ReadonlySet<string> = new Set(["src", "srcset", "poster", "background", "data", "href", "xlink:href"]);
const INSIDE = /^\s*(#|data:image\/)/i;
const CALLS_OUT = /url\s*\(|image-set|\\/i; // a backslash can spell any of them

/** `name` as DOMPurify has it: in lower case. Links may lead anywhere, for they wait for a click. */
export function allows(tag: string, name: string, value: string): boolean {
  if (ADDRESSES.has(name)) {
    return (tag === "a" && name === "href") || INSIDE.test(value);
  }
  return !CALLS_OUT.test(value) || name === "title" || name === "alt" || name === "class";
}
