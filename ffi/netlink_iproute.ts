/**
 * Netlink without netlink: the `ip` program is asked, and watched, and what it prints becomes netlink messages again.
 *
 * Needs no native call and no privilege, only the right to run the program. It is the lesser way: a process per question,
 * text to take apart, loss that is known only where `/proc` may be read, and nothing can be changed.
 *
 * @module
 */
import { CapabilityError } from "../internal/errors.ts";
import type { NetlinkHost, NetlinkOptions, NetlinkSocket } from "./netlink.ts";
import { Programs } from "./netlink_programs_iproute.ts";
import { IprouteNetlinkSocket } from "./netlink_socket_iproute.ts";

/**
 * Opens a host of the portable driver.
 *
 * @param program The `ip` program.
 * @param reason Why no better driver was taken.
 * @throws {CapabilityError} `ffi.driver-unavailable` when the program may not or cannot be run.
 */
export async function openIprouteHost(program: string, reason: string): Promise<NetlinkHost> {
  const { Deno: deno } = globalThis as { readonly Deno?: typeof Deno };
  if (deno !== undefined) {
    const granted = (wanted: Deno.PermissionDescriptor): boolean =>
      deno.permissions.querySync(wanted).state === "granted";
    if (!granted({ name: "run", command: program })) {
      throw unavailable(reason, `the permission to run "${program}" is not granted`, program);
    }
    // The runtime's node:child_process looks at this variable whatever it is given (Deno 2.9), and would ask.
    if (!granted({ name: "env", variable: VARIABLE })) {
      throw unavailable(reason, `the permission to read ${VARIABLE} is not granted`, program);
    }
  }
  // Of the many programs with this name only iproute2's knows JSON, and that one prints its name.
  const { code, stdout, stderr } = await new Programs(program).run(["-Version"]);
  if (code !== 0 || !stdout.includes("iproute2")) {
    const said = (stderr.trim() || stdout.trim() || `it ended with ${code}`).slice(0, 200);
    throw unavailable(reason, `"${program}" is not iproute2's (${said})`, program);
  }
  return new IprouteHost(program, reason);
}

function unavailable(reason: string, why: string, program: string): CapabilityError {
  const all = reason === "" ? why : `${reason}, and ${why}`;
  return new CapabilityError(
    "ffi.driver-unavailable",
    `Cannot watch the kernel's network tables: ${all}`,
    {
      capability: "netlink",
      why: all,
      remedy:
        `run with --allow-ffi on Linux, or with --allow-run=${program} and iproute2 installed`,
    },
  );
}

class IprouteHost implements NetlinkHost {
  readonly driver = "iproute";
  readonly fallbackReason: string;
  readonly #program: string;
  readonly #sockets = new Set<IprouteNetlinkSocket>();
  #closed = false;

  constructor(program: string, reason: string) {
    this.#program = program;
    this.fallbackReason = reason;
  }

  async open(options: NetlinkOptions = {}): Promise<NetlinkSocket> {
    options.signal?.throwIfAborted();
    if (this.#closed) throw new TypeError("Cannot open a netlink socket: the host is closed");
    const socket = new IprouteNetlinkSocket(
      this.#program,
      options,
      (gone) => this.#sockets.delete(gone),
    );
    this.#sockets.add(socket);
    const onAbort = (): void => void socket.close();
    options.signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await socket.start();
      options.signal?.throwIfAborted();
      return socket;
    } catch (error) {
      await socket.close();
      options.signal?.throwIfAborted();
      throw error;
    } finally {
      options.signal?.removeEventListener("abort", onAbort);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const socket of [...this.#sockets]) await socket.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const VARIABLE = "NODE_V8_COVERAGE";
