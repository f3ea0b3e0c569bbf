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
}

let unusable: string | undefined;

/** Why namespaces cannot be made here, one sentence; empty when they can. Found out once, by making one. */
export function missingNamespaces(): string {
  return unusable ??= tryNamespace();
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

  /** The words that run `words` inside. The process keeps its id: `ip` replaces itself. */
  wrap(words: readonly string[]): readonly string[] {
    return ["ip", "netns", "exec", this.name, ...words];
  }

  /** Joins this namespace to another by a cable of its own. It goes with either of them. */
  async connect(other: NetworkNamespace, options: LinkOptions): Promise<void> {
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
      // Without duplicate address detection an IPv6 address can be used at once.
      const nodad = address.includes(":") ? ["nodad"] : [];
      await run(["ip", "-n", name, "address", "add", address, "dev", device, ...nodad]);
      await run(["ip", "-n", name, "link", "set", device, "up"]);
      if (options.netem !== undefined) {
        const netem = ["qdisc", "add", "dev", device, "root", "netem", ...options.netem];
        await run(["tc", "-n", name, ...netem]);
      }
    }
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

/** At most 15 characters, the longest name of an interface; unique on this machine, not only in this process. */
function uniqueName(prefix: string): string {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return `${prefix}${Deno.pid.toString(36)}${number!.toString(36)}`.slice(0, 15);
}

async function run(words: readonly string[]): Promise<void> {
  const [program, ...args] = words;
  const { success, stderr } = await new Deno.Command(program!, { args, stdin: "null" }).output();
  if (success) return;
  throw new Error(`Cannot run ${words.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
}
