// Text that fits: measured on a canvas, which costs no layout.

let context: CanvasRenderingContext2D | null = null;

/** The first of `texts` that `width` pixels hold, or what fits of the last. */
export function firstFitting(texts: string[], width: number, font: string): string {
  return texts.find((text) => fitted(text, width, font) === text) ?? fitted(texts.at(-1) ?? "", width, font);
}

/** `text`, or as much of it as `width` pixels hold. */
export function fitted(text: string, width: number, font: string): string {
  context ??= document.createElement("canvas").getContext("2d");
  if (!context) {
    return text;
  }
  context.font = font;
  if (context.measureText(text).width <= width) {
    return text;
  }
  let [least, most] = [0, text.length - 1];
  while (least < most) {
    const middle = (least + most + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= width) {
      least = middle;
    } else {
      most = middle - 1;
    }
  }
  return `${text.slice(0, least)}…`;
}
