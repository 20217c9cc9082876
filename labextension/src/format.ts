// Numbers as a person reads them; as handoff_lab/_units.py does.

export function seconds(value: number): string {
  if (value < 1) {
    return `${Number((value * 1000).toPrecision(3))} ms`;
  }
  if (value < 60) {
    return `${value.toFixed(2)} s`;
  }
  const whole = Math.round(value);
  return whole < 3600
    ? `${Math.floor(whole / 60)} min ${whole % 60} s`
    : `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

/** A duration that still grows: no digits that flicker. */
export function ticking(value: number): string {
  return value < 60 ? `${Math.floor(value)} s` : seconds(value);
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}
