// Amounts of resources and times, beside what ../format.ts has.

import { seconds } from "../format";

export { count, plural } from "../format";

/** Seconds; null is "–". */
export function duration(value: number | null): string {
  return value === null ? "–" : value === 0 ? "0 s" : seconds(value);
}

/** "0:34", "12:05", "2:03:05": as clocks have it. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const BYTES = ["B", "kB", "MB", "GB", "TB"];

/** When something was, in seconds since the run started. */
export function moment(seconds: number): string {
  return seconds < 60 ? duration(seconds) : clock(seconds);
}

/** "512 B", "1.5 MB": decimal units, as costs have them. */
export function bytes(count: number | null): string {
  if (count === null) {
    return "–";
  }
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit < BYTES.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : significant(value, 3)} ${BYTES[unit]}`;
}

/** An amount of a resource without its unit: of `memory`, which is in MB, in the unit that suits `capability`. */
export function amount(resource: string, value: number, capability: number): string {
  const shown = resource === "memory" && capability >= 1000 ? value / 1000 : value;
  return significant(shown, shown < 10 ? 2 : 3);
}

export function unitOf(resource: string, capability: number): string {
  if (resource === "memory") {
    return capability >= 1000 ? "GB" : "MB";
  }
  return resource === "cpu" ? (capability === 1 ? "core" : "cores") : "";
}

/** 1234.5 with 3 digits is "1235", 0.01234 is "0.0123": digits before the point are all kept. */
export function significant(value: number, digits: number): string {
  if (value === 0 || !Number.isFinite(value)) {
    return String(value);
  }
  const before = Math.floor(Math.log10(Math.abs(value))) + 1;
  return String(Number(value.toFixed(Math.min(6, Math.max(0, digits - before)))));
}
