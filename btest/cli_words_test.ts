import { deepEqual, equal, match, throws } from "node:assert/strict";
import { ConfigurationError, UsageError } from "../internal/cli/command.ts";
import { SystemError } from "../internal/errors.ts";
import { recordedTerminal } from "../internal/testing/terminal.ts";
import { familiarWords, joinFlags, readPassword, readTarget } from "./cli_words.ts";

const words = (line: string) => familiarWords(line.split(" ")).join(" ");
const NOWHERE = { password: undefined, passwordFile: undefined, passwordEnv: undefined };
const SHORT = {
  transmit: false,
  receive: false,
  udp: false,
  seconds: undefined,
  bandwidth: undefined,
};
const PLAIN = {
  direction: "receive",
  protocol: "tcp",
  durationMs: 10_000,
  localTxSpeedBps: 0,
  remoteTxSpeedBps: 0,
} as const;

Deno.test("familiarWords() knows the words of other tools", () => {
  equal(words("-c 192.0.2.1 -t -d 5"), "client 192.0.2.1 -t -d 5");
  equal(words("-t -u -c 192.0.2.1 -d 5"), "client 192.0.2.1 -t -u -d 5");
  equal(words("-s -P 2001 --md5"), "server -P 2001 --auth=md5");
  equal(words("-a admin -s --no-auth"), "server -a admin --auth=none");
  equal(words("--server --ecsrp5"), "server --auth=ecsrp5");
});

Deno.test("familiarWords() leaves a command alone", () => {
  equal(words("client -c -s"), "client -c -s");
  equal(words("server --no-auth"), "server --auth=none");
  equal(words("client host --no-auth"), "client host --no-auth");
  equal(words("--help"), "--help");
  equal(words("-t -- -c"), "-t -- -c");
  deepEqual(familiarWords([]), []);
  deepEqual(familiarWords(["-c"]), ["client"]);
});

Deno.test("readPassword() takes a file without the end of its line", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const passwordFile = `${folder}/password`;
    const read = (text: string) => {
      Deno.writeTextFileSync(passwordFile, text);
      return readPassword({ ...NOWHERE, passwordFile }, recordedTerminal(), "OWN");
    };
    equal(read("secret\n"), "secret");
    equal(read("secret\r\n"), "secret");
    equal(read(" two\nlines \n\n"), " two\nlines \n");
    equal(read(""), "");
    const missing = { ...NOWHERE, passwordFile: `${folder}/nowhere` };
    throws(() => readPassword(missing, recordedTerminal(), "OWN"), SystemError);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("readPassword() takes a variable, and says when there is none", () => {
  const terminal = recordedTerminal({ SECRET: "x" });
  equal(readPassword({ ...NOWHERE, passwordEnv: "SECRET" }, terminal, "OWN"), "x");
  throws(
    () => readPassword({ ...NOWHERE, passwordEnv: "OTHER" }, terminal, "OWN"),
    ConfigurationError,
  );
  equal(readPassword(NOWHERE, terminal, "OWN"), undefined);
});

Deno.test("readPassword() asks a person when there is a user and no password", () => {
  const asked: string[] = [];
  const terminal = (answer: string | undefined) => ({
    ...recordedTerminal(),
    askSecret: (question: string) => {
      asked.push(question);
      return answer;
    },
  });
  equal(readPassword(NOWHERE, terminal("typed"), "OWN", "admin"), "typed");
  equal(readPassword(NOWHERE, terminal(""), "OWN", "admin"), "");
  throws(() => readPassword(NOWHERE, terminal(undefined), "OWN", "admin"), UsageError);
  deepEqual(asked, Array(3).fill('password of "admin": '));
  // Not without a user, not beside a password, and not where nobody sits.
  equal(readPassword(NOWHERE, terminal("typed"), "OWN"), undefined);
  equal(readPassword({ ...NOWHERE, password: "x" }, terminal("typed"), "OWN", "admin"), "x");
  equal(readPassword(NOWHERE, recordedTerminal(), "OWN", "admin"), undefined);
  equal(asked.length, 3);
});

Deno.test("readPassword() warns of a typed one only", () => {
  const typed = recordedTerminal();
  equal(readPassword({ ...NOWHERE, password: "x" }, typed, "OWN"), "x");
  match(typed.err, /^warning: .*--password-file/);
  const own = recordedTerminal({ OWN: "x" });
  equal(readPassword({ ...NOWHERE, password: "x" }, own, "OWN"), "x");
  equal(own.err, "");
});

Deno.test("readPassword() refuses two places at once", () => {
  const terminal = recordedTerminal({ A: "x" });
  for (
    const sources of [
      { ...NOWHERE, password: "x", passwordFile: "f" },
      { ...NOWHERE, passwordFile: "f", passwordEnv: "A" },
      { ...NOWHERE, password: "x", passwordEnv: "A" },
    ]
  ) throws(() => readPassword(sources, terminal, "OWN"), UsageError);
});

Deno.test("joinFlags() turns short flags into options", () => {
  const join = (short: Partial<typeof SHORT | Record<string, unknown>>) =>
    joinFlags({ ...PLAIN }, new Set(), { ...SHORT, ...short });
  equal(join({}).direction, "receive");
  equal(join({ transmit: true }).direction, "transmit");
  equal(join({ receive: true }).direction, "receive");
  equal(join({ transmit: true, receive: true }).direction, "both");
  equal(join({ udp: true }).protocol, "udp");
  equal(join({ seconds: 2.5 }).durationMs, 2500);
  equal(join({ seconds: 0 }).durationMs, 0);
});

Deno.test("-b limits what the chosen direction carries", () => {
  const limits = (short: object) => {
    const joined = joinFlags({ ...PLAIN }, new Set(), { ...SHORT, bandwidth: 5, ...short });
    return [joined.localTxSpeedBps, joined.remoteTxSpeedBps];
  };
  deepEqual(limits({ transmit: true }), [5, 0]);
  deepEqual(limits({ receive: true }), [0, 5]);
  deepEqual(limits({ transmit: true, receive: true }), [5, 5]);
});

Deno.test("joinFlags() refuses a short flag beside its long one", () => {
  const refused = (long: string, short: object) =>
    throws(() => joinFlags({ ...PLAIN }, new Set([long]), { ...SHORT, ...short }), UsageError);
  refused("direction", { transmit: true });
  refused("protocol", { udp: true });
  refused("durationMs", { seconds: 1 });
  refused("localTxSpeedBps", { bandwidth: 1 });
  refused("remoteTxSpeedBps", { bandwidth: 1 });
});

Deno.test("readTarget() joins host and port from both places", () => {
  const target = (word: string, port?: number) => readTarget(word, port).target;
  equal(target("192.0.2.1"), "192.0.2.1:2000");
  equal(target("192.0.2.1", 2001), "192.0.2.1:2001");
  equal(target("router.example:99"), "router.example:99");
  equal(target("2001:db8::1", 5), "[2001:db8::1]:5");
  equal(target("[2001:db8::1]:5", 5), "[2001:db8::1]:5");
  throws(() => target("192.0.2.1:1", 2), UsageError);
  throws(() => target(""), UsageError);
  throws(() => target(":2000"), UsageError);
  throws(() => target("a b"), UsageError);
});
