/**
 * What a measurement found, for people and for programs.
 *
 * @module
 */

import { table } from "../internal/cli/output.ts";

/** What is measured. */
export const BENCH_MODES = ["warm-restart", "sustained", "burst", "parse", "redis"] as const;
/** One of them. */
export type BenchMode = (typeof BENCH_MODES)[number];

/** A measurement whose outcome was wrong, however fast: exit code 1. */
export class BenchmarkError extends Error {
  override readonly name = "BenchmarkError";
}

/** One number. */
export interface BenchFigure {
  /** For programs. */
  readonly name: string;
  /** For people. */
  readonly label: string;
  readonly value: number;
  readonly unit: "ms" | "/s" | "%" | "";
  /** The same of a program that waits for an answer to every entry. */
  readonly baseline?: number | undefined;
}

/** What one measurement found. */
export interface BenchReport {
  readonly mode: BenchMode;
  /** Neither the kernel nor Redis had a part in it. */
  readonly synthetic: boolean;
  /** What had. */
  readonly touched: readonly ("kernel" | "redis")[];
  /** With what it was made, by name. */
  readonly subject: Readonly<Record<string, string | number>>;
  readonly figures: readonly BenchFigure[];
  /** Entries of the final table that were looked at one by one, all of them right. */
  readonly verified: number;
  /** What the baseline is; empty where there is none. */
  readonly baseline: string;
}

/** Milliseconds that a part of the values did not exceed. */
export function percentile(values: readonly number[], part: number): number {
  if (values.length === 0) return 0;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
}

/** The three that are always asked for. */
export function latencyFigures(
  values: readonly number[],
  baseline: readonly number[] | undefined,
): BenchFigure[] {
  return ([["p50", 0.5], ["p95", 0.95], ["p99", 0.99]] as const).map(([name, part]) => ({
    name: `${name}Ms`,
    label: `latency of a change, ${name}`,
    value: percentile(values, part),
    unit: "ms",
    baseline: baseline === undefined ? undefined : percentile(baseline, part),
  }));
}

/** As one object for a line of JSON. */
export function reportObject(report: BenchReport): object {
  const { mode, synthetic, touched, subject, figures, verified, baseline } = report;
  const round = (value: number): number => Number(value.toPrecision(6));
  const compared = figures.filter((figure) => figure.baseline !== undefined);
  return {
    type: "bench",
    mode,
    synthetic,
    touched,
    ...subject,
    results: Object.fromEntries(figures.map(({ name, value }) => [name, round(value)])),
    baseline: baseline === "" ? null : {
      what: baseline,
      ...Object.fromEntries(compared.map((figure) => [figure.name, round(figure.baseline!)])),
    },
    verified,
  };
}

/** As a table with what is needed to understand it. */
export function reportText(report: BenchReport): string {
  const { mode, synthetic, touched, subject, figures, verified, baseline } = report;
  const what = Object.entries(subject).map(([name, value]) => `${name} ${value}`).join(", ");
  const part = synthetic
    ? "synthetic: neither the kernel nor Redis had a part in it"
    : `touched: ${touched.join(" and ")}`;
  const columns = [["", "left"], ["measured", "right"]] as const;
  const rows = figures.map(({ label, value, unit, baseline }) => [
    label,
    numberText(value, unit),
    ...(baseline === undefined ? [] : [numberText(baseline, unit)]),
  ]);
  const lines = [
    `${mode}: ${what}`,
    part,
    "",
    table(baseline === "" ? columns : [...columns, ["baseline", "right"]], rows).trimEnd(),
    "",
  ];
  if (baseline !== "") lines.push(`baseline: ${baseline}`);
  if (!synthetic) lines.push(`verified: ${verified} entries of the final table are right`);
  return lines.join("\n").trimEnd() + "\n";
}

function numberText(value: number, unit: BenchFigure["unit"]): string {
  const text = unit === "" || value >= 999.5
    ? Math.round(value).toLocaleString("en-US")
    : value.toPrecision(3);
  return unit === "" ? text : unit === "/s" ? `${text}/s` : `${text} ${unit}`;
}
