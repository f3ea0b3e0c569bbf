/**
 * The TFTP servers that are measured, and how each is started.
 *
 * @module
 */

/** One server program. */
export interface ServerRow {
  readonly name: string;
  /** Where its program may be, first found wins. */
  readonly programs: readonly string[];
  /** Whether it agrees to windows (RFC 7440). */
  readonly windows: boolean;
  /** Whether it can listen on a port of choice; otherwise on 69 of its address. */
  readonly anyPort: boolean;
  readonly args: (root: string, host: string, port: number) => readonly string[];
}

const unpacked = `${Deno.env.get("TMPDIR") ?? "/tmp"}/fastwire-peers/atftpd/usr/sbin/atftpd`;

/** The C servers of Debian. */
export const PEERS: readonly ServerRow[] = [
  {
    name: "atftpd",
    programs: [Deno.env.get("FASTWIRE_ATFTPD") ?? unpacked, "/usr/sbin/atftpd"],
    windows: true,
    anyPort: true,
    args: (root, host, port) => [
      "--daemon",
      "--no-fork",
      "--user=root",
      "--group=root",
      "--port",
      `${port}`,
      "--bind-address",
      host,
      "--verbose=1",
      root,
    ],
  },
  {
    name: "tftpd-hpa",
    programs: ["/usr/sbin/in.tftpd"],
    windows: false,
    anyPort: true,
    args: (root, host, port) => [
      "--listen",
      "--foreground",
      "--secure",
      "--user",
      "root",
      "--address",
      `${host}:${port}`,
      root,
    ],
  },
  {
    name: "dnsmasq",
    programs: ["/usr/sbin/dnsmasq"],
    windows: false,
    anyPort: false,
    args: (root, host) => [
      "--keep-in-foreground",
      "--conf-file=/dev/null",
      "--port=0",
      "--enable-tftp",
      `--tftp-root=${root}`,
      `--listen-address=${host}`,
      "--bind-interfaces",
      "--user=root",
      "--pid-file=",
      "--log-facility=/dev/null",
    ],
  },
];

/** The program of a row, or `undefined`. */
export function programOf(row: ServerRow): string | undefined {
  return row.programs.find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}
