import { equal, ok, throws } from "node:assert/strict";
import { bindAll } from "./libc_linux.ts";
import { O_CLOEXEC, O_NONBLOCK } from "./constants_linux.ts";
import { SystemError } from "../internal/errors.ts";
import type { Reactor } from "./reactor.ts";
import { openRing } from "./io_uring_linux.ts";
import { openReactor } from "./reactor_linux.ts";
import { openSharedLoop } from "./shared_loop.ts";
import { ThreadLoop } from "./thread_loop_linux.ts";

interface Subject {
  readonly reactor: Reactor;
  /** Lets callbacks come until `done`, or fails after two seconds. */
  until(done: () => boolean, what: string): Promise<void>;
}

const library = bindAll();

async function open(kind: "thread" | "shared" | "uring" | "worker"): Promise<Subject> {
  const reactor = kind === "thread"
    ? new ThreadLoop()
    : kind === "shared"
    ? await openSharedLoop()
    : await openReactor(kind);
  equal(reactor.kind, kind === "shared" ? "thread" : kind);
  return {
    reactor,
    until: async (done, what) => {
      const start = performance.now();
      while (!done()) {
        ok(performance.now() - start < 2000, `waited two seconds for ${what}`);
        if (reactor instanceof ThreadLoop) reactor.turn(10);
        else await new Promise((resolve) => setTimeout(resolve, 0));
      }
    },
  };
}

/** A pipe that does not block, with what a test does to it. */
class Pipe {
  readonly readEnd: number;
  readonly writeEnd: number;
  readonly #bytes = new Uint8Array(65536);

  constructor() {
    const ends = new Int32Array(2);
    equal(library!.pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    [this.readEnd, this.writeEnd] = [ends[0]!, ends[1]!];
  }
  put(count = 1): void {
    equal(library!.write(this.writeEnd, this.#bytes, BigInt(count)), count);
  }
  /** Writes until it is full. */
  fill(): void {
    while (library!.write(this.writeEnd, this.#bytes, 65536n) > 0);
    while (library!.write(this.writeEnd, this.#bytes, 1n) > 0);
  }
  drain(): number {
    let total = 0;
    for (;;) {
      const count = library!.read(this.readEnd, this.#bytes, 65536n);
      if (count <= 0) return total;
      total += count;
    }
  }
  [Symbol.dispose](): void {
    library!.close(this.readEnd);
    library!.close(this.writeEnd);
  }
}

/** Waits until whatever was on its way has arrived: two rounds through the mechanism. */
async function quiet({ reactor, until }: Subject): Promise<void> {
  using pipe = new Pipe();
  pipe.put();
  let rounds = 0;
  const watch = reactor.watch(pipe.readEnd, "read", () => {
    if (++rounds < 3) watch.arm();
  });
  await until(() => rounds === 3, "the sentinel");
  watch.cancel();
}

const suite: readonly (readonly [string, (subject: Subject) => Promise<void>])[] = [
  ["calls back for a descriptor that is ready already", async ({ reactor, until }) => {
    using pipe = new Pipe();
    pipe.put();
    let calls = 0;
    const watch = reactor.watch(pipe.readEnd, "read", () => calls++);
    await until(() => calls === 1, "the callback");
    watch.cancel();
  }],
  ["calls back for a descriptor that becomes ready later", async (subject) => {
    const { reactor, until } = subject;
    using pipe = new Pipe();
    let calls = 0;
    const watch = reactor.watch(pipe.readEnd, "read", () => calls++);
    await quiet(subject);
    equal(calls, 0);
    pipe.put();
    await until(() => calls === 1, "the callback");
    watch.cancel();
  }],
  ["calls back at most once for each arming", async (subject) => {
    using pipe = new Pipe();
    pipe.put();
    let calls = 0;
    const watch = subject.reactor.watch(pipe.readEnd, "read", () => calls++);
    watch.arm();
    watch.arm();
    await quiet(subject);
    equal(calls, 1);
    watch.arm();
    await quiet(subject);
    equal(calls, 2, "what was not drained counts when armed again");
    watch.cancel();
  }],
  ["counts data that came between draining and arming", async (subject) => {
    const { reactor, until } = subject;
    using pipe = new Pipe();
    let calls = 0;
    const watch = reactor.watch(pipe.readEnd, "read", () => calls++);
    pipe.put();
    await until(() => calls === 1, "the first callback");
    pipe.drain();
    pipe.put();
    watch.arm();
    await until(() => calls === 2, "the second callback");
    watch.cancel();
  }],
  ["carries a stream of bytes through a watch that arms itself", async ({ reactor, until }) => {
    using pipe = new Pipe();
    let bytes = 0;
    const watch = reactor.watch(pipe.readEnd, "read", () => {
      bytes += pipe.drain();
      watch.arm();
    });
    for (let i = 1; i <= 300; i++) {
      pipe.put();
      await until(() => bytes === i, `byte ${i}`);
    }
    watch.cancel();
  }],
  ["watches for writing", async (subject) => {
    const { reactor, until } = subject;
    using pipe = new Pipe();
    pipe.fill();
    let calls = 0;
    const watch = reactor.watch(pipe.writeEnd, "write", () => calls++);
    await quiet(subject);
    equal(calls, 0, "a full pipe is not ready");
    pipe.drain();
    await until(() => calls === 1, "the callback");
    watch.cancel();
  }],
  ["calls back when the other end hangs up", async ({ reactor, until }) => {
    const pipe = new Pipe();
    let calls = 0;
    const watch = reactor.watch(pipe.readEnd, "read", () => calls++);
    library!.close(pipe.writeEnd);
    await until(() => calls === 1, "the callback");
    watch.cancel();
    library!.close(pipe.readEnd);
  }],
  ["never calls back after cancel", async (subject) => {
    using pipe = new Pipe();
    pipe.put();
    let calls = 0;
    const idle = subject.reactor.watch(pipe.readEnd, "read", () => calls++);
    idle.cancel();
    idle.cancel();
    idle.arm();
    await quiet(subject);
    equal(calls, 0);
  }],
  ["lets a callback cancel another watch that is ready too", async (subject) => {
    using a = new Pipe();
    using b = new Pipe();
    a.put();
    b.put();
    const called: string[] = [];
    const first = subject.reactor.watch(a.readEnd, "read", () => {
      called.push("a");
      second.cancel();
    });
    const second = subject.reactor.watch(b.readEnd, "read", () => {
      called.push("b");
      first.cancel();
    });
    await quiet(subject);
    equal(called.length, 1, `called ${called}`);
    first.cancel();
    second.cancel();
  }],
  ["does not take a reused slot for the watch that had it before", async (subject) => {
    using a = new Pipe();
    using b = new Pipe();
    a.put();
    let calls = 0;
    for (let i = 0; i < 50; i++) {
      const gone = subject.reactor.watch(a.readEnd, "read", () => {});
      gone.cancel();
      const watch = subject.reactor.watch(b.readEnd, "read", () => calls++);
      await quiet(subject);
      watch.cancel();
    }
    equal(calls, 0);
  }],
  ["frees a port at once when a watch is cancelled and the socket closed", ({ reactor }) => {
    const address = new Uint8Array(16);
    address[0] = 2;
    address.set([127, 0, 0, 1], 4);
    const length = new Uint32Array([16]);
    for (let i = 0; i < 20; i++) {
      const fd = library!.socket(2, 2 | O_NONBLOCK | O_CLOEXEC, 0);
      equal(library!.bind(fd, address, 16), 0, `errno ${library!.errno()} in round ${i}`);
      equal(library!.getsockname(fd, address, length), 0); // the next round binds the same port
      const watch = reactor.watch(fd, "read", () => {});
      watch.cancel();
      library!.close(fd);
    }
    return Promise.resolve();
  }],
  ["watches one descriptor several times", async (subject) => {
    using pipe = new Pipe();
    const calls = [0, 0];
    const watches = calls.map((_, i) =>
      subject.reactor.watch(pipe.readEnd, "read", () => calls[i]!++)
    );
    pipe.put();
    await subject.until(() => calls[0] === 1 && calls[1] === 1, "both callbacks");
    for (const watch of watches) watch.cancel();
  }],
  ["serves a thousand descriptors", async ({ reactor, until }) => {
    const pipes = Array.from({ length: 1000 }, () => new Pipe());
    let bytes = 0;
    const watches = pipes.map((pipe) => {
      const watch = reactor.watch(pipe.readEnd, "read", () => {
        bytes += pipe.drain();
        watch.arm();
      });
      return watch;
    });
    for (let round = 1; round <= 3; round++) {
      for (const pipe of pipes) pipe.put();
      await until(() => bytes === 1000 * round, `round ${round}`);
    }
    for (const watch of watches) watch.cancel();
    for (const pipe of pipes) pipe[Symbol.dispose]();
  }],
  ["refuses a descriptor that is not open", ({ reactor }) => {
    throws(
      () => reactor.watch(1_000_000, "read", () => {}),
      (error) => error instanceof SystemError && error.errnoName === "EBADF",
    );
    return Promise.resolve();
  }],
  ["refuses to watch after close, and closes twice", async (subject) => {
    const { reactor } = subject;
    using pipe = new Pipe();
    let calls = 0;
    const watch = reactor.watch(pipe.readEnd, "read", () => calls++);
    pipe.put();
    await reactor.close();
    await reactor.close();
    watch.arm();
    watch.cancel();
    throws(() => reactor.watch(pipe.readEnd, "read", () => {}), TypeError);
    equal(calls, 0);
  }],
];

const EXIT_PROGRAM = new URL("./testdata/reactor_exit.ts", import.meta.url).pathname;
const reason = library === undefined ? "no C library" : undefined;
for (const kind of ["thread", "shared", "uring", "worker"] as const) {
  let missing = reason;
  if (missing === undefined && kind === "uring") {
    const ring = openRing(library!);
    if (typeof ring === "string") missing = ring;
    else ring.close();
  }
  if (missing !== undefined) console.warn(`reactor ${kind} is not tested: ${missing}`);
  for (const [name, body] of suite) {
    Deno.test({
      name: `Reactor (${kind}) ${name}`,
      ignore: missing !== undefined,
      fn: async () => {
        const subject = await open(kind);
        try {
          await body(subject);
        } finally {
          await subject.reactor.close();
        }
      },
    });
  }
}

for (const kind of ["shared", "uring", "worker"] as const) {
  for (const how of ["closed", "unref"] as const) {
    Deno.test({
      name: `a process with a Reactor (${kind}) that is ${how} exits by itself`,
      ignore: reason !== undefined,
      fn: async () => {
        const start = performance.now();
        const child = new Deno.Command(Deno.execPath(), {
          args: [
            "run",
            "--allow-ffi",
            "--allow-read",
            "--no-prompt",
            "--no-check",
            EXIT_PROGRAM,
            kind,
            how,
          ],
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
        const { code, stdout, stderr } = await child.output();
        clearTimeout(timer);
        equal(code, 0, `${new TextDecoder().decode(stderr)}, ${performance.now() - start} ms`);
        const tookMs = Number(new TextDecoder().decode(stdout));
        ok(tookMs < 300, `${tookMs} ms from the last statement to the end`);
      },
    });
  }
}

Deno.test({
  name: "a polling reactor without read permission for its thread's file says so",
  ignore: reason !== undefined,
  fn: async () => {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-ffi", "--no-prompt", "--no-check", EXIT_PROGRAM, "worker", "closed"],
      stdout: "null",
      stderr: "piped",
    }).output();
    equal(code, 1);
    const said = new TextDecoder().decode(stderr);
    ok(said.includes("CapabilityError: Cannot open a polling reactor: its thread cannot be"), said);
  },
});
