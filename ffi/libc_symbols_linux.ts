/**
 * What is called in the C library: one table per feature, each entry under its C prototype.
 *
 * The prototypes are not decoration: `libc_linux_test.ts` derives the parameter types from them, and lets the C compiler
 * compare them with the system's headers. Rules of the tables:
 *
 * - Widths are the ABI's. `size_t` is `usize` and is called with a BigInt made beforehand: a number works as well, but
 *   takes the call off the compiled path (+100 ns).
 * - `ssize_t` results that count bytes below 2³¹ are `i32`.
 * - A pointer is `buffer` where whole objects are passed, and `usize` (an address from `addressOf`) where the call is
 *   frequent: 22 ns against 5.5 ns. Where both are useful there are two entries; the second ends in `At`.
 * - Variadic functions are declared with the fixed parameters they are called with, which is right on x86-64 and AArch64
 *   Linux (integers only) and wrong on macOS.
 *
 * @module
 */

/** `<string.h>`: how addresses are learned and foreign memory is read without `Deno.UnsafePointer`. */
export const MEMORY = {
  // void *memcpy(void *dest, const void *src, size_t n)
  memcpy: { parameters: ["buffer", "buffer", "usize"], result: "usize", optional: true },
  // void *memcpy(void *dest, const void *src, size_t n)
  memcpyFrom: {
    name: "memcpy",
    parameters: ["buffer", "usize", "usize"],
    result: "usize",
    optional: true,
  },
  // int *__errno_location(void)
  __errno_location: { parameters: [], result: "usize", optional: true },
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
  mmap: {
    parameters: ["usize", "usize", "i32", "i32", "i32", "i64"],
    result: "usize",
    optional: true,
  },
  // int munmap(void *addr, size_t length)
  munmap: { parameters: ["usize", "usize"], result: "i32", optional: true },
  // int memfd_create(const char *name, unsigned int flags)
  memfd_create: { parameters: ["buffer", "u32"], result: "i32", optional: true },
  // int mlock(const void *addr, size_t len)
  mlock: { parameters: ["usize", "usize"], result: "i32", optional: true },
  // int munlock(const void *addr, size_t len)
  munlock: { parameters: ["usize", "usize"], result: "i32", optional: true },
} as const;

/** `<unistd.h>`, `<fcntl.h>`, `<sys/uio.h>`: any descriptor. */
export const DESCRIPTORS = {
  // int close(int fd)
  close: { parameters: ["i32"], result: "i32", optional: true },
  // ssize_t read(int fd, void *buf, size_t count)
  read: { parameters: ["i32", "buffer", "usize"], result: "i32", optional: true },
  // ssize_t read(int fd, void *buf, size_t count)
  readAt: { name: "read", parameters: ["i32", "usize", "usize"], result: "i32", optional: true },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { parameters: ["i32", "buffer", "usize"], result: "i32", optional: true },
  // ssize_t write(int fd, const void *buf, size_t count)
  writeAt: { name: "write", parameters: ["i32", "usize", "usize"], result: "i32", optional: true },
  // ssize_t readv(int fd, const struct iovec *iov, int iovcnt)
  readv: { parameters: ["i32", "usize", "i32"], result: "i32", optional: true },
  // ssize_t writev(int fd, const struct iovec *iov, int iovcnt)
  writev: { parameters: ["i32", "usize", "i32"], result: "i32", optional: true },
  // int fcntl(int fd, int op, int arg)
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32", optional: true },
  // int pipe2(int pipefd[2], int flags)
  pipe2: { parameters: ["buffer", "i32"], result: "i32", optional: true },
  // int eventfd(unsigned int initval, int flags)
  eventfd: { parameters: ["u32", "i32"], result: "i32", optional: true },
  // ssize_t splice(int fd_in, off64_t *off_in, int fd_out, off64_t *off_out, size_t len, unsigned int flags)
  splice: {
    parameters: ["i32", "usize", "i32", "usize", "usize", "u32"],
    result: "i32",
    optional: true,
  },
  // ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count)
  sendfile: { parameters: ["i32", "i32", "buffer", "usize"], result: "i32", optional: true },
} as const;

/** `<sys/socket.h>`. */
export const SOCKETS = {
  // int socket(int domain, int type, int protocol)
  socket: { parameters: ["i32", "i32", "i32"], result: "i32", optional: true },
  // int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen)
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32", optional: true },
  // int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen)
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32", optional: true },
  // int listen(int sockfd, int backlog)
  listen: { parameters: ["i32", "i32"], result: "i32", optional: true },
  // int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen, int flags)
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32", optional: true },
  // int shutdown(int sockfd, int how)
  shutdown: { parameters: ["i32", "i32"], result: "i32", optional: true },
  // int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen)
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32", optional: true },
  // int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen)
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32", optional: true },
  // int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)
  setsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "u32"],
    result: "i32",
    optional: true,
  },
  // int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)
  getsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "buffer"],
    result: "i32",
    optional: true,
  },
  // ssize_t sendto(int sockfd, const void *buf, size_t len, int flags, const struct sockaddr *dest_addr, socklen_t addrlen)
  sendto: {
    parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"],
    result: "i32",
    optional: true,
  },
  // ssize_t recvfrom(int sockfd, void *buf, size_t len, int flags, struct sockaddr *src_addr, socklen_t *addrlen)
  recvfrom: {
    parameters: ["i32", "buffer", "usize", "i32", "buffer", "buffer"],
    result: "i32",
    optional: true,
  },
  // ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags)
  sendmsg: { parameters: ["i32", "usize", "i32"], result: "i32", optional: true },
  // ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags)
  recvmsg: { parameters: ["i32", "usize", "i32"], result: "i32", optional: true },
  // int sendmmsg(int sockfd, struct mmsghdr *msgvec, unsigned int vlen, int flags)
  sendmmsg: { parameters: ["i32", "usize", "u32", "i32"], result: "i32", optional: true },
  // int recvmmsg(int sockfd, struct mmsghdr *msgvec, unsigned int vlen, int flags, struct timespec *timeout)
  recvmmsg: { parameters: ["i32", "usize", "u32", "i32", "usize"], result: "i32", optional: true },
} as const;

/** `<fcntl.h>`, `<sys/stat.h>`, `<sys/statvfs.h>`: files. */
export const FILES = {
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32", optional: true },
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  preadAt: {
    name: "pread",
    parameters: ["i32", "usize", "usize", "i64"],
    result: "i32",
    optional: true,
  },
  // ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32", optional: true },
  // ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
  pwriteAt: {
    name: "pwrite",
    parameters: ["i32", "usize", "usize", "i64"],
    result: "i32",
    optional: true,
  },
  // ssize_t preadv(int fd, const struct iovec *iov, int iovcnt, off_t offset)
  preadv: { parameters: ["i32", "usize", "i32", "i64"], result: "i32", optional: true },
  // ssize_t pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset)
  pwritev: { parameters: ["i32", "usize", "i32", "i64"], result: "i32", optional: true },
  // int openat(int dirfd, const char *pathname, int flags, mode_t mode)
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32", optional: true },
  // int statx(int dirfd, const char *pathname, int flags, unsigned int mask, struct statx *statxbuf)
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32", optional: true },
  // int fstatvfs(int fd, struct statvfs *buf)
  fstatvfs: { parameters: ["i32", "buffer"], result: "i32", optional: true },
  // int posix_fadvise(int fd, off_t offset, off_t size, int advice)
  posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32", optional: true },
  // int fallocate(int fd, int mode, off_t offset, off_t size)
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32", optional: true },
  // int ftruncate(int fd, off_t length)
  ftruncate: { parameters: ["i32", "i64"], result: "i32", optional: true },
  // off_t lseek(int fd, off_t offset, int whence)
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64", optional: true },
  // int fsync(int fd)
  fsync: { parameters: ["i32"], result: "i32", optional: true },
  // On another thread: it waits for a disk, for milliseconds and sometimes seconds. errno stays there.
  // int fsync(int fd)
  fsyncElsewhere: {
    name: "fsync",
    parameters: ["i32"],
    result: "i32",
    optional: true,
    nonblocking: true,
  },
  // int fdatasync(int fd)
  fdatasync: { parameters: ["i32"], result: "i32", optional: true },
  // int fchmod(int fd, mode_t mode)
  fchmod: { parameters: ["i32", "u32"], result: "i32", optional: true },
  // int renameat(int olddirfd, const char *oldpath, int newdirfd, const char *newpath)
  renameat: { parameters: ["i32", "buffer", "i32", "buffer"], result: "i32", optional: true },
  // int renameat2(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, unsigned int flags)
  renameat2: {
    parameters: ["i32", "buffer", "i32", "buffer", "u32"],
    result: "i32",
    optional: true,
  },
  // int linkat(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, int flags)
  linkat: { parameters: ["i32", "buffer", "i32", "buffer", "i32"], result: "i32", optional: true },
  // int unlinkat(int dirfd, const char *pathname, int flags)
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32", optional: true },
  // int mkdirat(int dirfd, const char *pathname, mode_t mode)
  mkdirat: { parameters: ["i32", "buffer", "u32"], result: "i32", optional: true },
  // int faccessat(int dirfd, const char *pathname, int mode, int flags)
  faccessat: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32", optional: true },
} as const;

/** `<poll.h>`, `<sys/epoll.h>`: waiting. */
export const READINESS = {
  // int poll(struct pollfd *fds, nfds_t nfds, int timeout)
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", optional: true },
  // int ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *tmo_p, const sigset_t *sigmask)
  ppoll: { parameters: ["buffer", "u64", "buffer", "usize"], result: "i32", optional: true },
  // int epoll_create1(int flags)
  epoll_create1: { parameters: ["i32"], result: "i32", optional: true },
  // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32", optional: true },
  // int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
  epoll_wait: { parameters: ["i32", "usize", "i32", "i32"], result: "i32", optional: true },
  // int epoll_pwait2(int epfd, struct epoll_event *events, int maxevents, const struct timespec *timeout, const sigset_t *sigmask)
  epoll_pwait2: {
    parameters: ["i32", "usize", "i32", "usize", "usize"],
    result: "i32",
    optional: true,
  },
} as const;

/** `<unistd.h>`, `<sched.h>`, `<sys/resource.h>`, `<time.h>`: process, thread, clock, and calls without a wrapper. */
export const PROCESS = {
  // pid_t getpid(void)
  getpid: { parameters: [], result: "i32", optional: true },
  // int getrusage(int who, struct rusage *usage)
  getrusage: { parameters: ["i32", "buffer"], result: "i32", optional: true },
  // int sched_getaffinity(pid_t pid, size_t cpusetsize, cpu_set_t *mask)
  sched_getaffinity: { parameters: ["i32", "usize", "buffer"], result: "i32", optional: true },
  // int sched_setaffinity(pid_t pid, size_t cpusetsize, const cpu_set_t *mask)
  sched_setaffinity: { parameters: ["i32", "usize", "buffer"], result: "i32", optional: true },
  // int setns(int fd, int nstype)
  setns: { parameters: ["i32", "i32"], result: "i32", optional: true },
  // int malloc_trim(size_t pad)
  malloc_trim: { parameters: ["usize"], result: "i32", optional: true },
  // int clock_gettime(clockid_t clockid, struct timespec *tp)
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32", optional: true },
  // long syscall(long number, long a, long b, long c, long d, long e, long f)
  syscall: {
    parameters: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"],
    result: "i64",
    optional: true,
  },
} as const;

/** Symbols that a C library in use may lack; everything else every one has since the oldest the runtime starts on. */
export type NewerSymbol = "memfd_create" | "statx" | "renameat2" | "epoll_pwait2" | "malloc_trim";

/** All tables. */
export type Symbols =
  & typeof MEMORY
  & typeof DESCRIPTORS
  & typeof SOCKETS
  & typeof FILES
  & typeof READINESS
  & typeof PROCESS;

/** All tables as one. */
export const SYMBOLS: Symbols = {
  ...MEMORY,
  ...DESCRIPTORS,
  ...SOCKETS,
  ...FILES,
  ...READINESS,
  ...PROCESS,
};
