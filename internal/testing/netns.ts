/**
 * Network namespaces for tests against real programs: a network of one's own, gone when disposed.
 *
 * @module
 */

/** What a link between two namespaces is like. */
export interface LinkOptions {
  /** Address of the first end with its prefix length: `10.77.0.1/24`. */
  readonly first: string;
  /** Address of the second end. */
  readonly second: string;
  /** Bytes in an IP packet; the kernel's 1500 by default. */
  readonly mtu?: number;
  /** Words for `tc … netem`, on both ends: `["delay", "5ms", "loss", "1%"]`. */
  readonly netem?: readonly string[];
  /** Runs of datagrams cross the cable cut into packets, as they would leave a real card. Default: in one piece. */
  readonly cut?: boolean;
}

/** The devices of a cable: its end in the namespace that was asked, and the other one. */
export interface Link {
  readonly first: string;
  readonly second: string;
}

let unusable: string | undefined;
let noNetem: string | undefined;

/** Why namespaces cannot be made here, one sentence; empty when they can. Found out once, by making one. */
export function missingNamespaces(): string {
  return unusable ??= tryNamespace();
}

/** Why `tc … netem` cannot be used here, one sentence; empty when it can. Found out once, by trying. */
export function missingNetem(): string {
  return noNetem ??= missingNamespaces() || tryNetem();
}

/** A network namespace with its loopback up; removed with everything in it when disposed. */
export class NetworkNamespace implements AsyncDisposable {
  /** Its name for `ip netns`. */
  readonly name: string;
  #open = true;

  private constructor(name: string) {
    this.name = name;
  }

  /** Makes one. Needs root and `ip`. */
  static async create(): Promise<NetworkNamespace> {
    const name = uniqueName("fw");
    await run(["ip", "netns", "add", name]);
    const namespace = new NetworkNamespace(name);
    try {
      await run(["ip", "-n", name, "link", "set", "lo", "up"]);
    } catch (error) {
      await namespace[Symbol.asyncDispose]();
      throw error;
    }
    return namespace;
  }

  /** The file that stands for it. */
  get path(): string {
    return `/run/netns/${this.name}`;
  }

  /**
   * Makes a device that is up and has neighbours, with no address of its own: one end of a cable of which the other end
   * is in here as well, under the name with a `p` behind it.
   *
   * @param device Name, at most 14 characters.
   * @returns Its index.
   */
  async addDevice(device: string): Promise<number> {
    const peer = `${device}p`;
    await this.ip("link", "add", "name", device, "type", "veth", "peer", "name", peer);
    for (const end of [device, peer]) {
      // No address of its own: the neighbours that come with one would be in the way of who counts.
      await this.ip("link", "set", end, "addrgenmode", "none");
      await this.ip("link", "set", end, "up");
    }
    const [{ ifindex }] = JSON.parse(await this.ip("-json", "link", "show", "dev", device));
    return ifindex;
  }

  /** Runs `ip` for this namespace. @returns What it printed. @throws {Error} With its complaint. */
  ip(...words: readonly string[]): Promise<string> {
    return run(["ip", "-n", this.name, ...words]);
  }

  /** The words that run `words` inside. The process keeps its id: `ip` replaces itself. */
  wrap(words: readonly string[]): readonly string[] {
    return ["ip", "netns", "exec", this.name, ...words];
  }

  /** Joins this namespace to another by a cable of its own. It goes with either of them. */
  async connect(other: NetworkNamespace, options: LinkOptions): Promise<Link> {
    const first = uniqueName("fa");
    const second = uniqueName("fb");
    const mtu = options.mtu === undefined ? [] : ["mtu", String(options.mtu)];
    const here = ["name", first, ...mtu, "netns", this.name];
    const there = ["name", second, ...mtu, "netns", other.name];
    await run(["ip", "link", "add", ...here, "type", "veth", "peer", ...there]);
    for (
      const [name, device, address] of [
        [this.name, first, options.first],
        [other.name, second, options.second],
      ] as const
    ) {
      // The given addresses and no others: a second one could be what a server answers from.
      // IPv6 wants 1,280 bytes; a narrower cable has none, nor a mode to set.
      if ((options.mtu ?? 1500) >= 1280) {
        await run(["ip", "-n", name, "link", "set", device, "addrgenmode", "none"]);
      }
      // Without duplicate address detection an IPv6 address can be used at once.
      const nodad = address.includes(":") ? ["nodad"] : [];
      await run(["ip", "-n", name, "address", "add", address, "dev", device, ...nodad]);
      await run(["ip", "-n", name, "link", "set", device, "up"]);
      if (options.netem !== undefined) {
        const netem = ["qdisc", "add", "dev", device, "root", "netem", ...options.netem];
        await run(["tc", "-n", name, ...netem]);
      }
      if (options.cut === true) {
        await run(["ip", "-n", name, "link", "set", device, "gso_max_segs", "1"]);
      }
    }
    return { first, second };
  }

  /** Gives a device another address. */
  async addAddress(device: string, address: string): Promise<void> {
    const nodad = address.includes(":") ? ["nodad"] : [];
    await run(["ip", "-n", this.name, "address", "add", address, "dev", device, ...nodad]);
  }

  /** One table of `/proc/net/snmp`, by the names of its header line: `counts("Ip")`. */
  async counts(table: string): Promise<Readonly<Record<string, number>>> {
    const text = await run(this.wrap(["cat", "/proc/net/snmp"]));
    const rows = text.split("\n").filter((line) => line.startsWith(`${table}: `));
    const [names, values] = rows.map((line) => line.split(" ").slice(1));
    return Object.fromEntries((names ?? []).map((name, i) => [name, Number(values?.[i])]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await run(["ip", "netns", "delete", this.name]);
  }
}

function tryNamespace(): string {
  if (Deno.build.os !== "linux") return "network namespaces are Linux's";
  if (Deno.uid() !== 0) return "making network namespaces needs root";
  const name = uniqueName("fw");
  try {
    const made = new Deno.Command("ip", { args: ["netns", "add", name] }).outputSync();
    if (!made.success) return `ip netns add: ${new TextDecoder().decode(made.stderr).trim()}`;
    new Deno.Command("ip", { args: ["netns", "delete", name] }).outputSync();
    return "";
  } catch {
    return "the ip program was not found";
  }
}

function tryNetem(): string {
  const name = uniqueName("fw");
  const ip = (...args: string[]) => new Deno.Command("ip", { args }).outputSync();
  if (!ip("netns", "add", name).success) return "no namespace could be made";
  try {
    const args = ["-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "loss", "1%"];
    const { success, stderr } = new Deno.Command("tc", { args }).outputSync();
    return success ? "" : `the kernel has no netem: ${new TextDecoder().decode(stderr).trim()}`;
  } catch {
    return "the tc program was not found";
  } finally {
    ip("netns", "delete", name);
  }
}

/** At most 15 characters, the longest name of an interface; unique on this machine, not only in this process. */
function uniqueName(prefix: string): string {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return `${prefix}${Deno.pid.toString(36)}${number!.toString(36)}`.slice(0, 15);
}

async function run(words: readonly string[]): Promise<string> {
  const [program, ...args] = words;
  const { success, stdout, stderr } = await new Deno.Command(program!, { args, stdin: "null" })
    .output();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(`Cannot run ${words.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
}
