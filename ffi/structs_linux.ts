/**
 * Structs the kernel reads and writes: offsets of their members and their sizes, in bytes, for 64-bit little-endian
 * Linux. `structs_linux_test.ts` compares every one with what the C compiler says.
 *
 * @module
 */
import { type Layout, layout, packedLayout } from "../internal/bytes/layout.ts";

/** `struct iovec`, `<bits/types/struct_iovec.h>`. */
export const IOVEC: Layout<"base" | "len"> = layout(["base", "ptr"], ["len", "u64"]);

/** `struct msghdr`, `<bits/socket.h>`. With musl the two lengths are 32 bits and padding: the same bytes below 2³². */
export const MSGHDR: Layout<
  "name" | "namelen" | "iov" | "iovlen" | "control" | "controllen" | "flags"
> = layout(
  ["name", "ptr"],
  ["namelen", "u32"],
  ["iov", "ptr"],
  ["iovlen", "u64"],
  ["control", "ptr"],
  ["controllen", "u64"],
  ["flags", "i32"],
);

/** `struct mmsghdr`: a {@linkcode MSGHDR} at 0 and how many bytes were moved. */
export const MMSGHDR: Layout<
  "name" | "namelen" | "iov" | "iovlen" | "control" | "controllen" | "flags" | "pad" | "len"
> = layout(
  ["name", "ptr"],
  ["namelen", "u32"],
  ["iov", "ptr"],
  ["iovlen", "u64"],
  ["control", "ptr"],
  ["controllen", "u64"],
  ["flags", "i32"],
  ["pad", "i32"],
  ["len", "u32"],
);

/** `struct cmsghdr`; its data follows at `size`. `len` counts the header. */
export const CMSGHDR: Layout<"len" | "level" | "type"> = layout(
  ["len", "u64"],
  ["level", "i32"],
  ["type", "i32"],
);

/** `CMSG_LEN(n)`: what `len` says for `n` bytes of data. */
export function controlLength(dataBytes: number): number {
  return CMSGHDR.size + dataBytes;
}

/** `CMSG_SPACE(n)`: distance to the next control message. */
export function controlSpace(dataBytes: number): number {
  return CMSGHDR.size + ((dataBytes + 7) & ~7);
}

/** `struct sockaddr_in`; port and address in network order. */
export const SOCKADDR_IN: Layout<"family" | "port" | "addr" | "zero"> = layout(
  ["family", "u16"],
  ["port", "u16"],
  ["addr", "u32"],
  ["zero", 8],
);

/** `struct sockaddr_in6`; port, flow and address in network order. */
export const SOCKADDR_IN6: Layout<"family" | "port" | "flowinfo" | "addr" | "scope_id"> = layout(
  ["family", "u16"],
  ["port", "u16"],
  ["flowinfo", "u32"],
  ["addr", 16],
  ["scope_id", "u32"],
);

/** `struct sockaddr_un`; a leading NUL in `path` means an abstract name. */
export const SOCKADDR_UN: Layout<"family" | "path"> = layout(["family", "u16"], ["path", 108]);

/** `struct sockaddr_nl`. */
export const SOCKADDR_NL: Layout<"family" | "pad" | "pid" | "groups"> = layout(
  ["family", "u16"],
  ["pad", "u16"],
  ["pid", "u32"],
  ["groups", "u32"],
);

/** `struct sockaddr_ll`, `<linux/if_packet.h>`; `protocol` is in network byte order. */
export const SOCKADDR_LL: Layout<
  "family" | "protocol" | "ifindex" | "hatype" | "pkttype" | "halen" | "addr"
> = layout(
  ["family", "u16"],
  ["protocol", "u16"],
  ["ifindex", "i32"],
  ["hatype", "u16"],
  ["pkttype", "u8"],
  ["halen", "u8"],
  ["addr", 8],
);

/** `struct linger`, `<bits/socket.h>`. */
export const LINGER: Layout<"onoff" | "linger"> = layout(["onoff", "i32"], ["linger", "i32"]);

/**
 * `struct tcp_info`, `<linux/tcp.h>`, up to the delivery rate (Linux 4.9). The kernel fills as much as it knows and says
 * how much that was; two bit fields (window scales, flags) are `scales` and `limits`. Newer kernels append.
 */
export const TCP_INFO_STRUCT: Layout<
  | "state"
  | "ca_state"
  | "retransmits"
  | "probes"
  | "backoff"
  | "options"
  | "scales"
  | "limits"
  | "rto"
  | "ato"
  | "snd_mss"
  | "rcv_mss"
  | "unacked"
  | "sacked"
  | "lost"
  | "retrans"
  | "fackets"
  | "last_data_sent"
  | "last_ack_sent"
  | "last_data_recv"
  | "last_ack_recv"
  | "pmtu"
  | "rcv_ssthresh"
  | "rtt"
  | "rttvar"
  | "snd_ssthresh"
  | "snd_cwnd"
  | "advmss"
  | "reordering"
  | "rcv_rtt"
  | "rcv_space"
  | "total_retrans"
  | "pacing_rate"
  | "max_pacing_rate"
  | "bytes_acked"
  | "bytes_received"
  | "segs_out"
  | "segs_in"
  | "notsent_bytes"
  | "min_rtt"
  | "data_segs_in"
  | "data_segs_out"
  | "delivery_rate"
> = layout(
  ["state", "u8"],
  ["ca_state", "u8"],
  ["retransmits", "u8"],
  ["probes", "u8"],
  ["backoff", "u8"],
  ["options", "u8"],
  ["scales", "u8"],
  ["limits", "u8"],
  ["rto", "u32"],
  ["ato", "u32"],
  ["snd_mss", "u32"],
  ["rcv_mss", "u32"],
  ["unacked", "u32"],
  ["sacked", "u32"],
  ["lost", "u32"],
  ["retrans", "u32"],
  ["fackets", "u32"],
  ["last_data_sent", "u32"],
  ["last_ack_sent", "u32"],
  ["last_data_recv", "u32"],
  ["last_ack_recv", "u32"],
  ["pmtu", "u32"],
  ["rcv_ssthresh", "u32"],
  ["rtt", "u32"],
  ["rttvar", "u32"],
  ["snd_ssthresh", "u32"],
  ["snd_cwnd", "u32"],
  ["advmss", "u32"],
  ["reordering", "u32"],
  ["rcv_rtt", "u32"],
  ["rcv_space", "u32"],
  ["total_retrans", "u32"],
  ["pacing_rate", "u64"],
  ["max_pacing_rate", "u64"],
  ["bytes_acked", "u64"],
  ["bytes_received", "u64"],
  ["segs_out", "u32"],
  ["segs_in", "u32"],
  ["notsent_bytes", "u32"],
  ["min_rtt", "u32"],
  ["data_segs_in", "u32"],
  ["data_segs_out", "u32"],
  ["delivery_rate", "u64"],
);

/** `struct timespec`. */
export const TIMESPEC: Layout<"sec" | "nsec"> = layout(["sec", "i64"], ["nsec", "i64"]);

/** `struct timeval`. */
export const TIMEVAL: Layout<"sec" | "usec"> = layout(["sec", "i64"], ["usec", "i64"]);

/** `struct pollfd`. */
export const POLLFD: Layout<"fd" | "events" | "revents"> = layout(
  ["fd", "i32"],
  ["events", "i16"],
  ["revents", "i16"],
);

/** `struct epoll_event`: packed on x86-64 (12 bytes), not on AArch64 (16 bytes). */
export const EPOLL_EVENT: Layout<"events" | "data"> =
  typeof Deno !== "undefined" && Deno.build.arch === "aarch64"
    ? layout(["events", "u32"], ["data", "u64"])
    : packedLayout(["events", "u32"], ["data", "u64"]);

/** `struct in_pktinfo`; addresses in network order. */
export const IN_PKTINFO: Layout<"ifindex" | "spec_dst" | "addr"> = layout(
  ["ifindex", "i32"],
  ["spec_dst", "u32"],
  ["addr", "u32"],
);

/** `struct in6_pktinfo`. */
export const IN6_PKTINFO: Layout<"addr" | "ifindex"> = layout(["addr", 16], ["ifindex", "u32"]);

/** `struct sock_extended_err`, `<linux/errqueue.h>`; the offender's sockaddr follows at `size`. */
export const SOCK_EXTENDED_ERR: Layout<
  "errno" | "origin" | "type" | "code" | "pad" | "info" | "data"
> = layout(
  ["errno", "u32"],
  ["origin", "u8"],
  ["type", "u8"],
  ["code", "u8"],
  ["pad", "u8"],
  ["info", "u32"],
  ["data", "u32"],
);

/** `struct sock_fprog`. */
export const SOCK_FPROG: Layout<"len" | "filter"> = layout(["len", "u16"], ["filter", "ptr"]);

/** `struct sock_filter`. */
export const SOCK_FILTER: Layout<"code" | "jt" | "jf" | "k"> = layout(
  ["code", "u16"],
  ["jt", "u8"],
  ["jf", "u8"],
  ["k", "u32"],
);

/** `struct open_how`, `<linux/openat2.h>`. */
export const OPEN_HOW: Layout<"flags" | "mode" | "resolve"> = layout(
  ["flags", "u64"],
  ["mode", "u64"],
  ["resolve", "u64"],
);

/** `struct statx`, `<linux/stat.h>`, up to the device numbers; `rest` is what newer kernels fill. */
export const STATX: Layout<
  | "mask"
  | "blksize"
  | "attributes"
  | "nlink"
  | "uid"
  | "gid"
  | "mode"
  | "ino"
  | "size_"
  | "blocks"
  | "attributes_mask"
  | "atime"
  | "btime"
  | "ctime"
  | "mtime_sec"
  | "mtime_nsec"
  | "mtime_pad"
  | "rdev_major"
  | "rdev_minor"
  | "dev_major"
  | "dev_minor"
  | "rest"
> = layout(
  ["mask", "u32"],
  ["blksize", "u32"],
  ["attributes", "u64"],
  ["nlink", "u32"],
  ["uid", "u32"],
  ["gid", "u32"],
  ["mode", "u16"],
  ["ino", "u64"],
  ["size_", "u64"],
  ["blocks", "u64"],
  ["attributes_mask", "u64"],
  ["atime", 16],
  ["btime", 16],
  ["ctime", 16],
  ["mtime_sec", "i64"],
  ["mtime_nsec", "u32"],
  ["mtime_pad", "i32"],
  ["rdev_major", "u32"],
  ["rdev_minor", "u32"],
  ["dev_major", "u32"],
  ["dev_minor", "u32"],
  ["rest", 112],
);

/** `struct statvfs`, `<bits/statvfs.h>`. */
export const STATVFS: Layout<
  | "bsize"
  | "frsize"
  | "blocks"
  | "bfree"
  | "bavail"
  | "files"
  | "ffree"
  | "favail"
  | "fsid"
  | "flag"
  | "namemax"
  | "rest"
> = layout(
  ["bsize", "u64"],
  ["frsize", "u64"],
  ["blocks", "u64"],
  ["bfree", "u64"],
  ["bavail", "u64"],
  ["files", "u64"],
  ["ffree", "u64"],
  ["favail", "u64"],
  ["fsid", "u64"],
  ["flag", "u64"],
  ["namemax", "u64"],
  ["rest", 24],
);

/** `struct rusage`, `<bits/types/struct_rusage.h>`; the two times are a {@linkcode TIMEVAL} each. */
export const RUSAGE: Layout<
  | "utime_sec"
  | "utime_usec"
  | "stime_sec"
  | "stime_usec"
  | "maxrss"
  | "ixrss"
  | "idrss"
  | "isrss"
  | "minflt"
  | "majflt"
  | "nswap"
  | "inblock"
  | "oublock"
  | "msgsnd"
  | "msgrcv"
  | "nsignals"
  | "nvcsw"
  | "nivcsw"
> = layout(
  ["utime_sec", "i64"],
  ["utime_usec", "i64"],
  ["stime_sec", "i64"],
  ["stime_usec", "i64"],
  ["maxrss", "i64"],
  ["ixrss", "i64"],
  ["idrss", "i64"],
  ["isrss", "i64"],
  ["minflt", "i64"],
  ["majflt", "i64"],
  ["nswap", "i64"],
  ["inblock", "i64"],
  ["oublock", "i64"],
  ["msgsnd", "i64"],
  ["msgrcv", "i64"],
  ["nsignals", "i64"],
  ["nvcsw", "i64"],
  ["nivcsw", "i64"],
);

/** `struct io_uring_params`, `<linux/io_uring.h>`, with its two groups of ring offsets in place. */
export const IO_URING_PARAMS: Layout<
  | "sq_entries"
  | "cq_entries"
  | "flags"
  | "sq_thread_cpu"
  | "sq_thread_idle"
  | "features"
  | "wq_fd"
  | "resv"
  | "sq_off_head"
  | "sq_off_tail"
  | "sq_off_ring_mask"
  | "sq_off_ring_entries"
  | "sq_off_flags"
  | "sq_off_dropped"
  | "sq_off_array"
  | "sq_off_resv1"
  | "sq_off_user_addr"
  | "cq_off_head"
  | "cq_off_tail"
  | "cq_off_ring_mask"
  | "cq_off_ring_entries"
  | "cq_off_overflow"
  | "cq_off_cqes"
  | "cq_off_flags"
  | "cq_off_resv1"
  | "cq_off_user_addr"
> = layout(
  ["sq_entries", "u32"],
  ["cq_entries", "u32"],
  ["flags", "u32"],
  ["sq_thread_cpu", "u32"],
  ["sq_thread_idle", "u32"],
  ["features", "u32"],
  ["wq_fd", "u32"],
  ["resv", 12],
  ["sq_off_head", "u32"],
  ["sq_off_tail", "u32"],
  ["sq_off_ring_mask", "u32"],
  ["sq_off_ring_entries", "u32"],
  ["sq_off_flags", "u32"],
  ["sq_off_dropped", "u32"],
  ["sq_off_array", "u32"],
  ["sq_off_resv1", "u32"],
  ["sq_off_user_addr", "u64"],
  ["cq_off_head", "u32"],
  ["cq_off_tail", "u32"],
  ["cq_off_ring_mask", "u32"],
  ["cq_off_ring_entries", "u32"],
  ["cq_off_overflow", "u32"],
  ["cq_off_cqes", "u32"],
  ["cq_off_flags", "u32"],
  ["cq_off_resv1", "u32"],
  ["cq_off_user_addr", "u64"],
);

/** `struct io_uring_sqe`, as far as POLL_ADD, WRITE and ASYNC_CANCEL use it. */
export const IO_URING_SQE: Layout<
  | "opcode"
  | "flags"
  | "ioprio"
  | "fd"
  | "off"
  | "addr"
  | "len"
  | "poll32_events"
  | "user_data"
  | "buf_group"
  | "personality"
  | "splice_fd_in"
  | "addr3"
  | "rest"
> = layout(
  ["opcode", "u8"],
  ["flags", "u8"],
  ["ioprio", "u16"],
  ["fd", "i32"],
  ["off", "u64"],
  ["addr", "u64"],
  ["len", "u32"],
  ["poll32_events", "u32"],
  ["user_data", "u64"],
  ["buf_group", "u16"],
  ["personality", "u16"],
  ["splice_fd_in", "i32"],
  ["addr3", "u64"],
  ["rest", "u64"],
);

/** `struct io_uring_cqe`. */
export const IO_URING_CQE: Layout<"user_data" | "res" | "flags"> = layout(
  ["user_data", "u64"],
  ["res", "i32"],
  ["flags", "u32"],
);

/** `struct io_uring_probe`; `ops_len` entries of {@linkcode IO_URING_PROBE_OP} follow at `size`. */
export const IO_URING_PROBE: Layout<"last_op" | "ops_len" | "resv" | "resv2"> = layout(
  ["last_op", "u8"],
  ["ops_len", "u8"],
  ["resv", "u16"],
  ["resv2", 12],
);

/** `struct io_uring_probe_op`. */
export const IO_URING_PROBE_OP: Layout<"op" | "resv" | "flags" | "resv2"> = layout(
  ["op", "u8"],
  ["resv", "u8"],
  ["flags", "u16"],
  ["resv2", "u32"],
);
