/**
 * A program: runs a list of transfers with our own client, possibly many at once, possibly in another network, and prints
 * one JSON line per transfer. Its only word is the list as JSON, a {@linkcode TransferList}.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { connect } from "../client.ts";
import type { TransferSummary } from "../client_attempt.ts";
import type { ClientOptions } from "../settings.ts";
import { FunctionSink } from "../sinks.ts";

/** One transfer: a fetch of `get`, or the file at the path `put` stored as `as`. */
export interface TransferJob {
  readonly get?: string;
  readonly put?: string;
  readonly as?: string;
  readonly options?: ClientOptions;
  /** Another server than the list's. */
  readonly server?: string;
}

/** What the program is told. */
export interface TransferList {
  readonly server: string;
  readonly options: ClientOptions;
  readonly jobs: readonly TransferJob[];
  /** Transfers at once; 1 by default. */
  readonly concurrency?: number;
}

/** What became of a transfer. */
export interface TransferReport {
  /** Place in the list. */
  readonly index: number;
  /** The error's code and message; empty when it went well. */
  readonly error: string;
  /** SHA-256 of what was fetched. */
  readonly hash: string;
  readonly blockSize: number;
  readonly windowSize: number;
  readonly driver: string;
  readonly retransmits: number;
  readonly withoutOptions: boolean;
  readonly durationMs: number;
}

async function transfer(index: number, job: TransferJob, list: TransferList): Promise<string> {
  let error = "";
  let summary: TransferSummary | undefined;
  let hash = createHash("sha256");
  try {
    await using client = await connect(job.server ?? list.server, {
      ...list.options,
      ...job.options,
    });
    const open = (): FunctionSink => {
      hash = createHash("sha256");
      return new FunctionSink((piece) => {
        if (piece !== undefined) hash.update(piece);
      });
    };
    summary = job.get !== undefined
      ? await client.receive(job.get, open)
      : await client.put(job.as!, await Deno.readFile(job.put!));
  } catch (thrown) {
    const code = thrown instanceof Error && "code" in thrown ? `${thrown.code}: ` : "";
    error = `${code}${thrown instanceof Error ? thrown.message : thrown}`;
  }
  const report: TransferReport = {
    index,
    error,
    hash: hash.digest("hex"),
    blockSize: summary?.blockSize ?? 0,
    windowSize: summary?.windowSize ?? 0,
    driver: summary?.driver ?? "",
    retransmits: summary?.retransmits ?? 0,
    withoutOptions: summary?.withoutOptions ?? false,
    durationMs: summary?.durationMs ?? 0,
  };
  return JSON.stringify(report);
}

async function main(): Promise<void> {
  const list = JSON.parse(Deno.args[0]!) as TransferList;
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < list.jobs.length; index = next++) {
      console.log(await transfer(index, list.jobs[index]!, list));
    }
  };
  await Promise.all(Array.from({ length: list.concurrency ?? 1 }, worker));
}

if (import.meta.main) main();
