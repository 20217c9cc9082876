// Time across, in pixels.

export interface Span {
  from: number;
  to: number;
}

const SMALLEST = 1e-3;

/** The span about `at`, which keeps its place, made `factor` times as long, within `bounds`. */
export function zoomed(span: Span, at: number, factor: number, bounds: Span): Span {
  const length = Math.min(bounds.to - bounds.from, Math.max(SMALLEST, (span.to - span.from) * factor));
  const share = (at - span.from) / (span.to - span.from);
  return within({ from: at - share * length, to: at + (1 - share) * length }, bounds);
}

/** The span moved by `seconds`, as far as `bounds` let it. */
export function moved(span: Span, seconds: number, bounds: Span): Span {
  return within({ from: span.from + seconds, to: span.to + seconds }, bounds);
}

function within(span: Span, bounds: Span): Span {
  const length = Math.min(span.to - span.from, bounds.to - bounds.from);
  const from = Math.min(Math.max(span.from, bounds.from), bounds.to - length);
  return { from, to: from + length };
}

// Seconds of ticks: what divides minutes and hours.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];

/** Round times in the span, about one per `room` pixels. */
export function ticks(span: Span, width: number, room = 90): { at: number; text: string }[] {
  const wanted = ((span.to - span.from) * room) / Math.max(1, width);
  const step = wanted >= 1 ? (STEPS.find((each) => each >= wanted) ?? 86400 * Math.ceil(wanted / 86400)) : fine(wanted);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found: { at: number; text: string }[] = [];
  for (let count = Math.ceil(span.from / step - 1e-9); count * step <= span.to + 1e-9; count++) {
    found.push({ at: count * step, text: tickText(count * step, digits, span.to >= 60) });
  }
  return found;
}

/** The next of 1, 2, 5 times a power of ten. */
function fine(wanted: number): number {
  const power = 10 ** Math.floor(Math.log10(wanted));
  return power * ([1, 2, 5, 10].find((each) => each * power >= wanted * (1 - 1e-9)) ?? 10);
}

function tickText(seconds: number, digits: number, long: boolean): string {
  if (digits > 0 && !long) {
    return `${seconds.toFixed(digits)} s`;
  }
  if (!long) {
    return `${Math.round(seconds)} s`;
  }
  const whole = Math.floor(seconds + 1e-9);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = (seconds - Math.floor(whole / 60) * 60).toFixed(digits).padStart(digits > 0 ? 3 + digits : 2, "0");
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
