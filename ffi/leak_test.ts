import { equal } from "node:assert/strict";
import { openRing } from "./io_uring_linux.ts";
import { bindAll } from "./libc_linux.ts";

const library = bindAll();
if (library === undefined) console.warn("leaks of descriptors are not tested: no C library");

const SUBJECTS: readonly (readonly [subject: string, cycles: number])[] = [
  ["thread", 500],
  ["uring", 200],
  ["worker", 8],
  ["startThread", 8],
  ["capabilities", 100],
  // Twenty sockets a cycle.
  ["netlink", 50],
];

/** Why a subject cannot be cycled here; empty when it can. */
function missing(subject: string): string {
  if (library === undefined) return "no C library";
  if (subject !== "uring") return "";
  const ring = openRing(library);
  if (typeof ring === "string") return ring;
  ring.close();
  return "";
}

for (const [subject, cycles] of SUBJECTS) {
  const reason = missing(subject);
  if (reason !== "") console.warn(`${subject} is not tested for leaks: ${reason}`);
  Deno.test({
    name: `${subject} leaves no descriptor open after ${cycles} cycles`,
    ignore: reason !== "",
    fn: async () => {
      const program = new URL("./testdata/leak_cycles.ts", import.meta.url).pathname;
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", program, subject, String(cycles)],
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
      const { stdout, stderr } = await child.output();
      clearTimeout(timer);
      equal(new TextDecoder().decode(stdout), "ok\n", new TextDecoder().decode(stderr));
    },
  });
}
