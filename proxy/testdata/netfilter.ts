/**
 * A client, a proxy that is its only way, and a server, each in a network of its own, for tests with real netfilter.
 *
 * @module
 */

import { NetworkNamespace } from "../../internal/testing/netns.ts";
import { type OwnTool, ownWords, startOwnTool } from "../../internal/testing/own_tool.ts";
import { type Finished, runProgram } from "../../internal/testing/peers.ts";
import { patternHash } from "./interop_origin.ts";

/** Where the server is asked: two addresses of each family, all of them its own. */
export const SERVER4 = ["10.91.2.2", "10.91.2.3"] as const;
export const SERVER6 = ["fd91:2::2", "fd91:2::3"] as const;
/** What the server sees of whoever comes through the proxy. */
export const PROXY4 = "10.91.2.1";
export const PROXY6 = "fd91:2::1";

const PEER = "proxy/testdata/netfilter_peer.ts";

/** The three networks. */
export class NetfilterScene implements AsyncDisposable {
  readonly client: NetworkNamespace;
  readonly router: NetworkNamespace;
  readonly server: NetworkNamespace;
  /** The router's device to the client. */
  readonly inside: string;
  #origin: OwnTool | undefined;
  #proxy: OwnTool | undefined;
  readonly #folder: string;

  private constructor(
    networks: readonly NetworkNamespace[],
    inside: string,
    folder: string,
  ) {
    [this.client, this.router, this.server] = networks as [
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
    ];
    this.inside = inside;
    this.#folder = folder;
  }

  /** Makes them, and starts the server. The router forwards nothing by itself. */
  static async create(): Promise<NetfilterScene> {
    const networks: NetworkNamespace[] = [];
    const folder = await Deno.makeTempDir({ prefix: "fastwire-netfilter-" });
    let scene: NetfilterScene | undefined;
    try {
      for (let i = 0; i < 3; i++) networks.push(await NetworkNamespace.create());
      const [client, router, server] = networks as [
        NetworkNamespace,
        NetworkNamespace,
        NetworkNamespace,
      ];
      const near = await router.connect(client, { first: "10.91.1.1/24", second: "10.91.1.2/24" });
      await router.addAddress(near.first, "fd91:1::1/64");
      await client.addAddress(near.second, "fd91:1::2/64");
      const far = await router.connect(server, {
        first: `${PROXY4}/24`,
        second: `${SERVER4[0]}/24`,
      });
      await router.addAddress(far.first, `${PROXY6}/64`);
      await server.addAddress(far.second, `${SERVER4[1]}/24`);
      for (const address of SERVER6) await server.addAddress(far.second, `${address}/64`);
      await client.ip("route", "add", "default", "via", "10.91.1.1");
      await client.ip("-6", "route", "add", "default", "via", "fd91:1::1");
      scene = new NetfilterScene(networks, near.first, folder);
      for (const name of ["net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"]) {
        await scene.run(router, ["sysctl", "-q", "-w", name]);
      }
      scene.#origin = await startOwnTool(PEER, ["serve", ...SERVER4, ...SERVER6], {
        namespace: server,
        ready: /^serving$/,
      });
      return scene;
    } catch (error) {
      if (scene === undefined) {
        for (const network of networks) await network[Symbol.asyncDispose]();
      } else await scene[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs a program inside. @throws {Error} When it does not end well. */
  async run(network: NetworkNamespace, words: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.try(network, words);
    if (code !== 0) throw new Error(`Cannot run ${words.join(" ")}: ${code}, ${stderr}${stdout}`);
    return stdout;
  }

  /** The same, however it ends. */
  try(network: NetworkNamespace, words: readonly string[]): Promise<Finished> {
    return runProgram(words, { namespace: network, timeoutMs: 30_000 });
  }

  /** Has netfilter of the router do this instead of what it did. */
  async rules(text: string): Promise<void> {
    const file = `${this.#folder}/rules.nft`;
    await Deno.writeTextFile(file, `flush ruleset\ntable inet fw {\n${text}\n}\n`);
    await this.run(this.router, ["nft", "-f", file]);
  }

  /** Has packets with mark 1 come to the router itself, whoever they are for. */
  async divert(): Promise<void> {
    for (const family of ["-4", "-6"]) {
      await this.router.ip(family, "rule", "add", "fwmark", "1", "lookup", "100");
      await this.router.ip(family, "route", "add", "local", "default", "dev", "lo", "table", "100");
    }
  }

  /** Starts our proxy on the router, instead of the one before. */
  async proxy(
    config: { readonly inbounds: readonly object[]; readonly [key: string]: unknown },
    driver: "fast" | "portable" = "fast",
  ): Promise<OwnTool> {
    await this.#proxy?.[Symbol.asyncDispose]();
    const file = `${this.#folder}/config.json`;
    await Deno.writeTextFile(file, JSON.stringify(config));
    this.#proxy = await startOwnTool("proxy/mod.ts", ["run", "-c", file, "--driver", driver], {
      namespace: this.router,
      ready: /^listening \S+ \S+:(\d+) \w+\/(\S+)$/,
      times: config.inbounds.length,
    });
    return this.#proxy;
  }

  /** Fetches so many bytes by curl. @returns What is wrong; empty when nothing. */
  async fetch(
    host: string,
    bytes: number,
    from: NetworkNamespace = this.client,
  ): Promise<string> {
    const url = `http://${host.includes(":") ? `[${host}]` : host}/bytes/${bytes}`;
    const head = `${this.#folder}/head`, body = `${this.#folder}/body`;
    const { code, stderr } = await this.try(
      from,
      ["curl", "-gsS", "--max-time", "20", "-D", head, "-o", body, url],
    );
    if (code !== 0) return `curl ended with ${code}: ${stderr}`;
    const { stdout } = await runProgram(["sha256sum", body]);
    if (stdout.split(" ")[0] !== patternHash(bytes)) return "other bytes arrived";
    const proxy = host.includes(":") ? PROXY6 : PROXY4;
    const text = await Deno.readTextFile(head);
    if (!text.includes(`x-asked: ${host}\r\n`)) return `it asked somebody else: ${text}`;
    return text.includes(`x-client: ${proxy}\r\n`) ? "" : `it did not come from the proxy: ${text}`;
  }

  /** Sends so many bytes by curl. @returns As {@linkcode fetch}. */
  async send(host: string, bytes: number): Promise<string> {
    const file = `${this.#folder}/upload`;
    const url = `http://${host.includes(":") ? `[${host}]` : host}/hash`;
    const { patternBytes } = await import("../../internal/testing/pattern.ts");
    await Deno.writeFile(file, patternBytes(0, bytes));
    const { code, stdout, stderr } = await this.try(
      this.client,
      ["curl", "-gsS", "--max-time", "20", "-T", file, url],
    );
    if (code !== 0) return `curl ended with ${code}: ${stderr}`;
    return stdout === patternHash(bytes) ? "" : "other bytes arrived";
  }

  /** Sends datagrams from a port of the client and wants them back. @returns One line for each. */
  async ask(host: string, port: number, lengths: readonly number[]): Promise<readonly string[]> {
    const words = ["ask", String(port), host, "7000", ...lengths.map(String)];
    const output = await this.run(this.client, ownWords(PEER, words));
    return output.trim().split("\n");
  }

  /** A counter of the rules. @returns How many packets it has seen. */
  async packets(name: string): Promise<number> {
    const text = await this.run(this.router, ["nft", "-j", "list", "counter", "inet", "fw", name]);
    for (const { counter } of JSON.parse(text).nftables) {
      if (counter !== undefined) return counter.packets;
    }
    throw new Error(`Cannot read counter ${name}: ${text}`);
  }

  /** A counter of `/proc/net/netstat`. */
  async statistic(network: NetworkNamespace, name: string): Promise<number> {
    const lines = (await this.run(network, ["cat", "/proc/net/netstat"])).split("\n");
    for (let at = 0; at + 1 < lines.length; at += 2) {
      const column = lines[at]!.split(" ").indexOf(name);
      if (column > 0) return Number(lines[at + 1]!.split(" ")[column]);
    }
    throw new Error(`Cannot read ${name}: the kernel does not count it`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy?.[Symbol.asyncDispose]();
    await this.#origin?.[Symbol.asyncDispose]();
    for (const network of [this.client, this.router, this.server]) {
      await network[Symbol.asyncDispose]();
    }
    await Deno.remove(this.#folder, { recursive: true });
  }
}
