/**
 * Metrics as text for Prometheus. Nothing is counted here: whoever counts has plain numbers, and they are read when
 * somebody scrapes. prom-client writes the text and is loaded by the first exposition.
 *
 * @module
 */

/** Label names and values of one sample. */
export type MetricLabels = Readonly<Record<string, string>>;

/** One number of a metric. */
export interface MetricSample {
  readonly labels: MetricLabels;
  readonly value: number;
}

/** A distribution in fixed buckets. */
export interface MetricDistribution {
  /** Upper bounds of the buckets, ascending, without infinity. */
  readonly bounds: readonly number[];
  /** Observations per bucket, not accumulated; one more than bounds, the last for everything above. */
  readonly counts: ArrayLike<number>;
  /** Sum of all observations, in the unit of the bounds. */
  readonly sum: number;
}

/** A metric: what it is called, and where its numbers come from. */
export type Metric =
  | {
    /** Without the prefix of the exposition. Counters end in `_total`. */
    readonly name: string;
    readonly help: string;
    readonly type: "counter" | "gauge";
    /** Read at every scrape. */
    readonly read: () => number | readonly MetricSample[];
  }
  | {
    readonly name: string;
    readonly help: string;
    readonly type: "histogram";
    readonly read: () => MetricDistribution;
  };

/** The text of one scrape. */
export interface Scrape {
  /** For the header of that name. */
  readonly contentType: string;
  readonly body: string;
}

/** Writes metrics. */
export interface Exposition {
  /**
   * Reads every metric and writes it down.
   *
   * @param accept The request's `Accept`: OpenMetrics 1.0 for who names it, else the text format 0.0.4.
   */
  scrape(accept?: string): Promise<Scrape>;
}

interface Sample {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/**
 * Prepares the exposition of some metrics.
 *
 * @param prefix Before every name: `fastwire_neighsync_`.
 * @throws {TypeError} When a name is not one Prometheus takes, or comes twice.
 */
export async function openExposition(
  prefix: string,
  metrics: readonly Metric[],
): Promise<Exposition> {
  const seen = new Set<string>();
  for (const { name } of metrics) {
    const whole = prefix + name;
    if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(whole)) {
      throw new TypeError(
        `Cannot expose ${JSON.stringify(whole)}: expected letters, digits and "_"`,
      );
    }
    if (seen.has(name)) throw new TypeError(`Cannot expose ${whole} twice`);
    seen.add(name);
  }
  const { Registry } = await import("prom-client");
  // One for each format: a registry renames its counters when it writes OpenMetrics.
  const classic = new Registry();
  const open = new Registry();
  open.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as typeof open.contentType);
  for (const registry of [classic, open]) {
    for (const metric of metrics) {
      const { name, help, type } = metric;
      const registered = {
        name: prefix + name,
        help,
        type,
        get() {
          return Promise.resolve({ name: this.name, help, type, values: samplesOf(this, metric) });
        },
      };
      // The registry asks a metric for no more than this; its type wants one of the classes that count by themselves.
      registry.registerMetric(registered as never);
    }
  }
  return {
    async scrape(accept = "") {
      const registry = accept.includes("application/openmetrics-text") ? open : classic;
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
  };
}

function samplesOf({ name }: { readonly name: string }, metric: Metric): readonly Sample[] {
  if (metric.type !== "histogram") {
    const read = metric.read();
    return typeof read === "number" ? [{ labels: {}, value: read }] : read;
  }
  const { bounds, counts, sum } = metric.read();
  const samples: Sample[] = [];
  let total = 0;
  for (let i = 0; i <= bounds.length; i++) {
    total += counts[i] ?? 0;
    const le = i < bounds.length ? bounds[i]! : "+Inf";
    samples.push({ metricName: `${name}_bucket`, labels: { le }, value: total });
  }
  samples.push({ metricName: `${name}_sum`, labels: {}, value: sum });
  samples.push({ metricName: `${name}_count`, labels: {}, value: total });
  return samples;
}
