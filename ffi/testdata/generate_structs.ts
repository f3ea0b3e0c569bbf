/**
 * Asks the C compiler what `structs_linux.ts` and `constants_linux.ts` claim to know. Only names go into the C program:
 * every number comes out of the system's headers.
 *
 *     deno run -A ffi/testdata/generate_structs.ts > ffi/testdata/structs_x86_64.json
 *
 * @module
 */
import * as constants from "../constants_linux.ts";
import * as structs from "../structs_linux.ts";

/** What the compiler said. */
export interface CompilerFacts {
  /** Sizes of types, by their C name. */
  readonly types: Readonly<Record<string, number>>;
  /** Offsets of members and `size`, by the name of the layout. */
  readonly structs: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Constants as decimal strings, by name. */
  readonly constants: Readonly<Record<string, string>>;
}

/** The C type of each layout, and how its members are called there when a prefix is not enough. */
const C_NAMES: Readonly<
  Record<
    string,
    readonly [type: string, prefix: string, special?: Readonly<Record<string, string>>]
  >
> = {
  IOVEC: ["struct iovec", "iov_"],
  MSGHDR: ["struct msghdr", "msg_", { iov: "msg_iov", iovlen: "msg_iovlen" }],
  MMSGHDR: ["struct mmsghdr", "msg_hdr.msg_", { len: "msg_len", pad: "" }],
  CMSGHDR: ["struct cmsghdr", "cmsg_"],
  SOCKADDR_IN: ["struct sockaddr_in", "sin_"],
  SOCKADDR_IN6: ["struct sockaddr_in6", "sin6_"],
  SOCKADDR_UN: ["struct sockaddr_un", "sun_"],
  SOCKADDR_NL: ["struct sockaddr_nl", "nl_"],
  SOCKADDR_LL: ["struct sockaddr_ll", "sll_"],
  LINGER: ["struct linger", "", { onoff: "l_onoff", linger: "l_linger" }],
  // It grows with the kernel: only the members are compared.
  TCP_INFO_STRUCT: ["struct tcp_info", "tcpi_", { scales: "", limits: "", size: "" }],
  TIMESPEC: ["struct timespec", "tv_"],
  TIMEVAL: ["struct timeval", "tv_"],
  POLLFD: ["struct pollfd", ""],
  EPOLL_EVENT: ["struct epoll_event", ""],
  IN_PKTINFO: ["struct in_pktinfo", "ipi_"],
  IN6_PKTINFO: ["struct in6_pktinfo", "ipi6_"],
  SOCK_EXTENDED_ERR: ["struct sock_extended_err", "ee_"],
  SOCK_FPROG: ["struct sock_fprog", ""],
  SOCK_FILTER: ["struct sock_filter", ""],
  OPEN_HOW: ["struct open_how", ""],
  STATX: ["struct statx", "stx_", {
    size_: "stx_size",
    mtime_sec: "stx_mtime.tv_sec",
    mtime_nsec: "stx_mtime.tv_nsec",
    mtime_pad: "",
    rest: "",
  }],
  STATVFS: ["struct statvfs", "f_", { rest: "" }],
  RUSAGE: ["struct rusage", "ru_", {
    utime_sec: "ru_utime.tv_sec",
    utime_usec: "ru_utime.tv_usec",
    stime_sec: "ru_stime.tv_sec",
    stime_usec: "ru_stime.tv_usec",
  }],
  // "user_addr" is called "resv2" in headers before 6.5.
  IO_URING_PARAMS: ["struct io_uring_params", "", { sq_off_user_addr: "", cq_off_user_addr: "" }],
  IO_URING_SQE: ["struct io_uring_sqe", "", { rest: "" }],
  IO_URING_CQE: ["struct io_uring_cqe", ""],
  IO_URING_PROBE: ["struct io_uring_probe", ""],
  IO_URING_PROBE_OP: ["struct io_uring_probe_op", ""],
};

/** Types whose widths the symbol tables rely on. */
const TYPES = [
  "int",
  "unsigned int",
  "long",
  "size_t",
  "ssize_t",
  "off_t",
  "off64_t",
  "socklen_t",
  "mode_t",
  "pid_t",
  "nfds_t",
  "void *",
];

/** The headers everything comes from; also used to check the prototypes of the symbol tables. */
export const HEADERS = `#define _GNU_SOURCE 1
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifndef SOL_UDP
#define SOL_UDP 17
#endif
`;

/** The layouts of `structs_linux.ts`, by name. */
export function layouts(): Readonly<Record<string, Readonly<Record<string, number>>>> {
  const found: Record<string, Readonly<Record<string, number>>> = {};
  for (const [name, value] of Object.entries(structs)) {
    if (typeof value === "object") found[name] = value;
  }
  return found;
}

/** Error names and numbers are checked as well. */
export function program(errnoNames: readonly string[]): string {
  const lines: string[] = [HEADERS, "int main(void) {", '  printf("{\\n");'];
  const table = (name: string, rows: readonly string[], last = false): void => {
    lines.push(`  printf("  \\"${name}\\": {\\n");`);
    rows.forEach((row, i) => lines.push(row.replace("@", i === rows.length - 1 ? "" : ",")));
    lines.push(`  printf("  }${last ? "" : ","}\\n");`);
  };
  table(
    "types",
    TYPES.map((type) => `  printf("    \\"${type}\\": %zu@\\n", sizeof(${type}));`),
  );
  table(
    "structs",
    Object.entries(layouts()).map(([name, fields]) => {
      const names = C_NAMES[name];
      if (names === undefined) throw new TypeError(`Cannot check ${name}: its C type is not known`);
      const [type, prefix, special = {}] = names;
      const members = Object.keys(fields).filter((field) => field !== "size").flatMap((field) => {
        const member = special[field] ??
          (/^[sc]q_off_/.test(field) ? field.replace("_off_", "_off.") : `${prefix}${field}`);
        if (member === "" || (special[field] === undefined && field.startsWith("pad"))) return [];
        return [[field, `offsetof(${type}, ${member})`]];
      });
      if (special.size !== "") members.push(["size", `sizeof(${type})`]);
      const format = members.map(([field]) => `\\"${field}\\": %zu`).join(", ");
      const values = members.map(([, value]) => value).join(", ");
      return `  printf("    \\"${name}\\": { ${format} }@\\n", ${values});`;
    }),
  );
  const numbers = [
    ...Object.entries(constants).map(([name]) => name),
    ...errnoNames,
  ];
  table(
    "constants",
    numbers.map((name) => `  printf("    \\"${name}\\": \\"%lld\\"@\\n", (long long)(${name}));`),
    true,
  );
  lines.push('  printf("}\\n");', "  return 0;", "}", "");
  return lines.join("\n");
}

/** Compiles and runs. @returns `undefined` when there is no compiler. @throws {Error} When the program does not compile. */
export async function askCompiler(
  errnoNames: readonly string[],
): Promise<CompilerFacts | undefined> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/structs.c`, program(errnoNames));
    let compiled: Deno.CommandOutput;
    try {
      compiled = await new Deno.Command("cc", {
        args: ["-w", "-o", `${folder}/structs`, `${folder}/structs.c`],
      }).output();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
    if (!compiled.success) throw new Error(new TextDecoder().decode(compiled.stderr));
    const { stdout } = await new Deno.Command(`${folder}/structs`).output();
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  import("../errno.ts").then(async ({ errnoNames }) => {
    const facts = await askCompiler(errnoNames());
    if (facts === undefined) throw new Error("Cannot ask the compiler: there is no cc");
    console.log(JSON.stringify(facts, null, 2));
  });
}
