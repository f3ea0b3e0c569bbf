/**
 * A program: runs a list of transfers with our own client, possibly many at once, possibly in another network, and prints
 * one JSON line per transfer. Its only word is the list as JSON, a {@linkcode TransferList}.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { connect, type TftpClient } from "../client.ts";
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
  /** Milliseconds since the epoch, both. */
  readonly startedAt: number;
  readonly endedAt: number;
}

const now = (): number => performance.timeOrigin + performance.now();

async function transfer(
  client: TftpClient,
  index: number,
  job: TransferJob,
): Promise<TransferReport> {
  const startedAt = now();
  let error = "";
  let summary: TransferSummary | undefined;
  let hash = createHash("sha256");
  try {
    const open = (): FunctionSink => {
      hash = createHash("sha256");
      return new FunctionSink((piece) => {
        if (piece !== undefined) hash.update(piece);
      });
    };
    summary = job.get !== undefined
      ? await client.receive(job.get, open, job.options)
      : await client.put(job.as!, await Deno.readFile(job.put!), job.options);
  } catch (thrown) {
    const code = thrown instanceof Error && "code" in thrown ? `${thrown.code}: ` : "";
    error = `${code}${thrown instanceof Error ? thrown.message : thrown}`;
  }
  return {
    index,
    error,
    hash: hash.digest("hex"),
    blockSize: summary?.blockSize ?? 0,
    windowSize: summary?.windowSize ?? 0,
    driver: summary?.driver ?? "",
    retransmits: summary?.retransmits ?? 0,
    withoutOptions: summary?.withoutOptions ?? false,
    startedAt,
    endedAt: now(),
  };
}

async function main(): Promise<void> {
  const list = JSON.parse(Deno.args[0]!) as TransferList;
  const clients = new Map<string, TftpClient>();
  for (const server of new Set(list.jobs.map((job) => job.server ?? list.server))) {
    clients.set(server, await connect(server, list.options));
  }
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < list.jobs.length; index = next++) {
      const job = list.jobs[index]!;
      const report = await transfer(clients.get(job.server ?? list.server)!, index, job);
      console.log(JSON.stringify(report));
    }
  };
  await Promise.all(Array.from({ length: list.concurrency ?? 1 }, worker));
  for (const client of clients.values()) await client.close();
}

if (import.meta.main) main();
