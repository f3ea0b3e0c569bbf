/**
 * Numbers and tables for people, lines for programs.
 *
 * @module
 */

/**
 * A rate in bits per second with an SI prefix and three digits: `948 Mbit/s`.
 *
 * @param bps Bits per second.
 */
export function rateText(bps: number): string {
  return prefixed(bps, 1000, ["", "k", "M", "G", "T"], "bit/s");
}

/**
 * A number of bytes with a binary prefix and three digits: `64.0 KiB`; below 1024 as it is: `511 B`.
 *
 * @param bytes Bytes.
 */
export function bytesText(bytes: number): string {
  return prefixed(bytes, 1024, ["", "Ki", "Mi", "Gi", "Ti"], "B");
}

/**
 * A span of time: `870 ms`, `12.3 s`, `4 min 05 s`, `2 h 07 min`.
 *
 * @param ms Milliseconds.
 */
export function durationText(ms: number): string {
  if (ms < 999.5) return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const pad = (value: number): string => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${pad(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
}

/** One object as one line of JSON, with its newline. Big integers become numbers when they are exact, else text. */
export function jsonLine(value: object): string {
  return JSON.stringify(value, (_key, member: unknown) => {
    if (typeof member !== "bigint") return member;
    const number = Number(member);
    return Number.isSafeInteger(number) ? number : member.toString();
  }) + "\n";
}

/** Where a column of a {@linkcode table} stands. */
export type Alignment = "left" | "right";

/**
 * A table with a header and columns as wide as needed.
 *
 * @param columns Title and alignment, from left to right.
 * @param rows Cells in the same order; a missing cell is empty.
 * @returns Lines, each with its newline and without spaces at its end.
 */
export function table(
  columns: readonly (readonly [title: string, alignment: Alignment])[],
  rows: readonly (readonly string[])[],
): string {
  const widths = columns.map(([title], index) =>
    Math.max(title.length, ...rows.map((row) => (row[index] ?? "").length))
  );
  const line = (cells: readonly string[]): string =>
    columns.map(([, alignment], index) => {
      const cell = cells[index] ?? "";
      return alignment === "left" ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!);
    }).join("  ").trimEnd() + "\n";
  return [columns.map(([title]) => title), ...rows].map(line).join("");
}

/**
 * Breaks text into lines at spaces.
 *
 * @param width Most characters in a line; a longer word stays whole.
 */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}

function prefixed(
  value: number,
  step: number,
  prefixes: readonly string[],
  unit: string,
): string {
  let scaled = value;
  let index = 0;
  // Half a unit below the step rounds up to it: 999.6 k is written 1.00 M.
  while (scaled >= step - 0.5 && index < prefixes.length - 1) {
    scaled /= step;
    index++;
  }
  const digits = index === 0 && Number.isInteger(scaled) || scaled >= 99.95
    ? 0
    : scaled >= 9.995
    ? 1
    : 2;
  return `${scaled.toFixed(digits)} ${prefixes[index]}${unit}`;
}
