/**
 * Numbers about what happens often: counted on the hot path by additions only, read by `snapshot()`.
 *
 * @module
 */

/** How often a value was at most so large. */
export interface HistogramSnapshot {
  /** Upper bounds of the buckets, ascending, in the unit of the values; the last bucket has none and is not listed. */
  readonly bounds: readonly number[];
  /** Values in each bucket, not accumulated; one more than `bounds`. */
  readonly counts: readonly number[];
  /** Values counted. */
  readonly count: number;
  /** Their sum. */
  readonly sum: number;
}

/** Counts values by size, in buckets that are fixed. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array<ArrayBuffer>;
  #sum = 0;

  /** @param bounds Upper bounds of the buckets, ascending. */
  constructor(bounds: readonly number[]) {
    this.#bounds = Object.freeze([...bounds]);
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** Counts a value, `times` times. */
  add(value: number, times = 1): void {
    const bounds = this.#bounds;
    let index = 0;
    while (index < bounds.length && value > bounds[index]!) index++;
    this.#counts[index] = this.#counts[index]! + times;
    this.#sum += value * times;
  }

  /** A frozen copy. */
  snapshot(): HistogramSnapshot {
    const counts = Object.freeze([...this.#counts]);
    return Object.freeze({
      bounds: this.#bounds,
      counts,
      count: counts.reduce((sum, count) => sum + count, 0),
      sum: this.#sum,
    });
  }
}

/**
 * What a part of the values did not exceed, as well as buckets can tell: straight lines are drawn between their bounds.
 *
 * @param part 0 to 1: 0.99 for the value that one in a hundred exceeds.
 * @param since An earlier snapshot of the same histogram whose values do not count.
 * @returns The value, the highest bound for one beyond it; 0 when there are no values.
 */
export function quantile(
  histogram: HistogramSnapshot,
  part: number,
  since?: HistogramSnapshot,
): number {
  const counts = histogram.counts.map((count, index) => count - (since?.counts[index] ?? 0));
  const total = counts.reduce((sum, count) => sum + count, 0);
  let left = total * part;
  if (total === 0) return 0;
  for (let index = 0; index < histogram.bounds.length; index++) {
    const count = counts[index]!;
    if (left <= count) {
      const lower = index === 0 ? 0 : histogram.bounds[index - 1]!;
      return lower + (histogram.bounds[index]! - lower) * (count === 0 ? 0 : left / count);
    }
    left -= count;
  }
  return histogram.bounds.at(-1) ?? 0;
}
