/**
 * The two sides of a bandwidth test as processes, ours and iperf3's, and what one run of them carried.
 *
 * Ours are the commands as a user starts them. What is reported is what the *receiving* side counted; the numbers of the
 * datagrams, the sender's count and the kernel's own count of what came in over IP have to agree with it.
 *
 * @module
 */

const HOST = "127.0.0.1";
const CLI = new URL("../../btest/mod.ts", import.meta.url).pathname;
/** Payload of a packet of 1500 bytes: UDP rows of ours count whole packets, those of iperf3 do not. */
const PAYLOAD_1500 = 1472;

/** One kind of run. */
export interface Case {
  readonly name: string;
  readonly protocol: "tcp" | "udp";
  /** The client's view. */
  readonly direction: "receive" | "transmit" | "both";
  readonly connections: number;
  readonly seconds: number;
}

/** What one run carried. */
export interface Sample {
  /** What arrived, payload, Gbit/s; of both directions together. */
  readonly gbps: number;
  /** The same of each direction: to the client, to the server; 0 for a direction the run did not have. */
  readonly toClient: number;
  readonly toServer: number;
  /** Datagrams that were sent and did not arrive, of all, percent. */
  readonly lossPercent: number;
  /** Processor seconds for each gigabyte that arrived, start of the client process included. */
  readonly clientCpuPerGigabyte: number;
  readonly serverCpuPerGigabyte: number;
  /** UDP of ours: milliseconds until a second began that reached 90 % of the plateau. */
  readonly rampMs?: number;
}

/** A server that runs until it is stopped. */
export interface Server {
  readonly port: number;
  run(one: Case, extra?: readonly string[]): Promise<Sample>;
  stop(): Promise<void>;
}

/** A row of `--json`, as far as it is read. */
export interface Row {
  readonly type: string;
  readonly protocol: string;
  readonly direction: string;
  readonly elapsed_ms: number;
  readonly interval_ms: number;
  readonly duration_ms: number;
  readonly rx_bytes: number;
  readonly rx_bps: number;
  readonly tx_bytes: number;
  readonly lost_packets: number;
  readonly rx_packets: number;
  readonly tx_packets: number;
}

/** What both sides of one of our tests said. */
export interface Told {
  readonly client: readonly Row[];
  readonly server: readonly Row[];
}

/** Our server, and its clients. */
export class OurServer implements Server {
  readonly port: number;
  readonly #child: Deno.ChildProcess;
  readonly #sessions = new Map<number, Row[]>();
  /** Tests that ended and were not asked for, and those that are asked for, by what they are. */
  readonly #ended = new Map<string, (readonly Row[])[]>();
  readonly #awaited = new Map<string, ((rows: readonly Row[]) => void)[]>();

  private constructor(child: Deno.ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
    void this.#read();
  }

  /** Starts one on a free port. */
  static async start(): Promise<OurServer> {
    const child = spawn(Deno.execPath(), [
      ...["run", "-A", "--no-check", CLI, "server", "--listen", `${HOST}:0`, "--json"],
      ...["--udp-port-start", `${20_000 + Math.floor(Math.random() * 20_000)}`],
      ...FAST,
    ]);
    for await (const line of lines(child.stderr)) {
      const port = /"address":"127\.0\.0\.1:(\d+)"/.exec(line)?.[1];
      if (port === undefined) throw new Error(`The server says ${line}`);
      return new OurServer(child, Number(port));
    }
    throw new Error("The server ended");
  }

  /** Its processor seconds so far. */
  cpuSeconds(): number {
    return cpuOf(this.#child.pid, 11);
  }

  /** Runs a client against it. At the same time: only tests that differ in protocol or direction. */
  async test(args: readonly string[]): Promise<Told> {
    const client = spawn(Deno.execPath(), [
      ...["run", "-A", "--no-check", CLI, "client", `${HOST}:${this.port}`, "--json"],
      ...args,
    ]);
    let errors = "";
    const said = (async () => {
      for await (const line of lines(client.stderr)) errors += `${line}\n`;
    })();
    const rows: Row[] = [];
    for await (const line of lines(client.stdout)) rows.push(JSON.parse(line));
    await said;
    if (!(await client.status).success) throw new Error(`The client says ${errors}`);
    return { client: rows, server: await this.told(kindOf(rows[0]!)) };
  }

  async run(one: Case, extra: readonly string[] = FAST): Promise<Sample> {
    const [ours, server, octets] = [childCpu(), this.cpuSeconds(), kernelOctets()];
    const { client: rows, server: theirs } = await this.test([
      ...["--protocol", one.protocol, "--direction", one.direction],
      ...["--connections", `${one.connections}`, "--duration", `${one.seconds}s`],
      ...extra,
    ]);
    const carried = kernelOctets() - octets;
    const clientCpu = childCpu() - ours;
    const serverCpu = this.cpuSeconds() - server;
    const [clientEnd, serverEnd] = [rows.at(-1)!, theirs.at(-1)!];
    const udp = one.protocol === "udp";
    const bytes = clientEnd.rx_bytes + serverEnd.rx_bytes;
    check(one, bytes, carried, clientEnd, serverEnd);
    const toClient = one.direction === "transmit" ? 0 : plateau(rows, udp);
    const toServer = one.direction === "receive" ? 0 : plateau(theirs, udp);
    const lost = clientEnd.lost_packets + serverEnd.lost_packets;
    const arrived = clientEnd.rx_packets + serverEnd.rx_packets;
    return {
      gbps: toClient + toServer,
      toClient,
      toServer,
      lossPercent: udp ? 100 * lost / Math.max(1, lost + arrived) : 0,
      clientCpuPerGigabyte: clientCpu / (bytes / 1e9),
      serverCpuPerGigabyte: serverCpu / (bytes / 1e9),
      ...udp ? { rampMs: Math.max(ramp(rows, toClient), ramp(theirs, toServer)) } : {},
    };
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
  }

  /** What the server said of the next test of a kind: such tests have to follow one another. */
  told(kind: string): Promise<readonly Row[]> {
    const rows = this.#ended.get(kind)?.shift();
    if (rows !== undefined) return Promise.resolve(rows);
    return new Promise((resolve) => push(this.#awaited, kind, resolve));
  }

  async #read(): Promise<void> {
    for await (const line of lines(this.#child.stdout)) {
      const row = JSON.parse(line) as Row & { readonly session: number };
      const rows = this.#sessions.get(row.session) ?? [];
      rows.push(row);
      this.#sessions.set(row.session, rows);
      if (row.type !== "end") continue;
      this.#sessions.delete(row.session);
      const kind = kindOf(rows[0]!);
      const resolve = this.#awaited.get(kind)?.shift();
      if (resolve === undefined) push(this.#ended, kind, rows);
      else resolve(rows);
    }
  }
}

function kindOf({ protocol, direction }: Pick<Row, "protocol" | "direction">): string {
  return `${protocol} ${direction}`;
}

function push<T>(lists: Map<string, T[]>, key: string, value: T): void {
  lists.set(key, [...lists.get(key) ?? [], value]);
}

/** iperf3's server, and its clients. */
export class Iperf implements Server {
  readonly port: number;
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Starts one; undefined when it is not installed. */
  static async start(): Promise<Iperf | undefined> {
    const port = 20_000 + Math.floor(Math.random() * 20_000);
    try {
      const child = spawn("iperf3", ["-s", "-B", HOST, "-p", `${port}`]);
      for (const stream of [child.stdout, child.stderr]) void stream.pipeTo(new WritableStream());
      for (let tries = 0; tries < 100; tries++) {
        try {
          (await Deno.connect({ hostname: HOST, port })).close();
          return new Iperf(child, port);
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
      throw new Error("iperf3 does not listen");
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  async run(one: Case): Promise<Sample> {
    const udp = one.protocol === "udp";
    const [ours, server] = [childCpu(), cpuOf(this.#child.pid, 11)];
    const { stdout } = await new Deno.Command("iperf3", {
      args: [
        ...["-c", HOST, "-p", `${this.port}`, "-t", `${one.seconds}`, "-J"],
        ...one.direction === "receive" ? ["-R"] : [],
        ...one.direction === "both" ? ["--bidir"] : [],
        ...one.connections > 1 ? ["-P", `${one.connections}`] : [],
        // Unlimited, the same packets, and buffers as large as it can ask for.
        ...udp ? ["-u", "-b", "0", "-l", `${PAYLOAD_1500}`, "-w", "4M"] : [],
      ],
    }).output();
    const answer = JSON.parse(new TextDecoder().decode(stdout));
    if (answer.error !== undefined) throw new Error(`iperf3 says ${answer.error}`);
    const { end } = answer;
    const sums = [end.sum_received, end.sum_received_bidir_reverse];
    const [first, second] = sums.map((sum) => (sum?.bits_per_second ?? 0) / 1e9);
    const bytes = (end.sum_received.bytes + (end.sum_received_bidir_reverse?.bytes ?? 0)) as number;
    const lost = sums.reduce((all, sum) => all + (sum?.lost_packets ?? 0), 0) as number;
    const packets = sums.reduce((all, sum) => all + (sum?.packets ?? 0), 0) as number;
    return {
      gbps: first! + second!,
      toClient: one.direction === "receive" ? first! : second!,
      toServer: one.direction === "receive" ? 0 : first!,
      lossPercent: udp ? 100 * lost / Math.max(1, packets) : 0,
      clientCpuPerGigabyte: (childCpu() - ours) / (bytes / 1e9),
      serverCpuPerGigabyte: (cpuOf(this.#child.pid, 11) - server) / (bytes / 1e9),
    };
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
  }
}

/** What a receiver counted has to agree with the other side and with the kernel. */
function check(one: Case, bytes: number, carried: number, client: Row, server: Row): void {
  const udp = one.protocol === "udp";
  // A run of datagrams crosses loopback with one header; the counts have one for each.
  const payload = udp ? bytes * PAYLOAD_1500 / 1500 : bytes;
  if (payload > carried) {
    throw new Error(`${one.name}: ${payload} bytes counted, but ${carried} came in over IP`);
  }
  const sent = client.tx_bytes + server.tx_bytes;
  if (bytes > sent) throw new Error(`${one.name}: ${bytes} bytes received, but ${sent} sent`);
  if (!udp) {
    if (payload < carried * 0.97) {
      throw new Error(`${one.name}: ${payload} bytes counted of ${carried} that came in over IP`);
    }
    return;
  }
  // Every number that was sent either arrived or is known to be missing, but for the tail.
  for (const [to, from] of [[client, server], [server, client]] as const) {
    const known = to.rx_packets + to.lost_packets;
    if (known > from.tx_packets || known < from.tx_packets * 0.9) {
      throw new Error(`${one.name}: ${from.tx_packets} datagrams sent, ${known} accounted for`);
    }
  }
}

/** What arrived in whole seconds, payload, Gbit/s: TCP over all of them, UDP once its sender has found the rate. */
function plateau(rows: readonly Row[], udp: boolean): number {
  const seconds = wholeSeconds(rows).filter(({ elapsed_ms, interval_ms }) =>
    !udp || elapsed_ms - interval_ms > RAMP_MS - 100
  );
  const bytes = seconds.reduce((sum, row) => sum + row.rx_bytes, 0);
  const ms = seconds.reduce((sum, row) => sum + row.interval_ms, 0);
  return bytes * 8e-6 / Math.max(1, ms) * (udp ? PAYLOAD_1500 / 1500 : 1);
}

/** When the first second began that had 90 % of the plateau, milliseconds. */
function ramp(rows: readonly Row[], plateauGbps: number): number {
  const wanted = plateauGbps * 0.9 * 1500 / PAYLOAD_1500;
  const row = wholeSeconds(rows).find((row) => row.rx_bytes * 8e-6 / row.interval_ms >= wanted);
  return row === undefined ? Infinity : row.elapsed_ms - row.interval_ms;
}

function wholeSeconds(rows: readonly Row[]): readonly Row[] {
  return rows.filter((row) => row.type === "interval" && row.interval_ms > 500);
}

function spawn(command: string, args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(command, {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = "";
  for await (const piece of stream.pipeThrough(new TextDecoderStream()).values()) {
    const parts = (text + piece).split("\n");
    text = parts.pop()!;
    yield* parts;
  }
}

/** Processor seconds of two fields of `/proc/PID/stat` behind the name: 11 for its own, 13 for its buried children's. */
function cpuOf(pid: number | "self", first: 11 | 13): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[first]) + Number(fields[first + 1])) / 100;
}

/** Processor seconds of every process this one has started and buried. */
function childCpu(): number {
  return cpuOf("self", 13);
}

/** Bytes that came in over IP on all devices of this machine: `InOctets` of `/proc/net/netstat`. */
function kernelOctets(): number {
  const [names, values] = Deno.readTextFileSync("/proc/net/netstat").split("\n")
    .filter((line) => line.startsWith("IpExt:")).map((line) => line.split(" "));
  return Number(values![names!.indexOf("InOctets")]);
}

/** When an unlimited UDP sender has to have found the rate of its path. */
export const RAMP_MS = 4000;
const FAST: readonly string[] = ["--driver", "fast"];
