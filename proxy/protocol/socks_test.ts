import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { bytesOfHex } from "../../internal/testing/vectors.ts";
import { abuse, converse, converseEveryWay } from "../testdata/feed.ts";
import { decodeAddress, encodeAddress } from "./address.ts";
import { UserTable } from "./credentials.ts";
import { chooseMixedProtocol } from "./mixed.ts";
import { joinBytes } from "./octets.ts";
import { encodeSocks4Reply, SOCKS4_GRANTED, Socks4Client, Socks4Server } from "./socks4.ts";
import {
  encodeSocks5Reply,
  REJECT_SOCKS5_FRAGMENT,
  REJECT_SOCKS5_RESERVED,
  SOCKS5_DATAGRAM_ADDRESS_AT,
  Socks5Client,
  type Socks5Command,
  socks5DatagramData,
  socks5ReplyOf,
  Socks5Server,
  type Socks5ServerOptions,
  writeSocks5DatagramHeader,
} from "./socks5.ts";
import { dialFailureOf } from "./step.ts";

const random = seededRandom(5);
const users = new UserTable([{ username: "alice", password: "wonder land" }, {
  username: "bøb",
  password: "",
}]);

/** Hex of text. */
function hex(text: string): string {
  return [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

const EXAMPLE = `03 0b ${hex("example.com")} 01bb`;
const EXAMPLE_ENDPOINT = { host: "example.com", port: 443 };

function server5(options: Socks5ServerOptions, input: string) {
  return converseEveryWay(() => new Socks5Server(options), bytesOfHex(input), random);
}

Deno.test("Socks5Server reads a request without authentication and leaves the payload behind it", () => {
  deepEqual(server5({}, `05 01 00 05 01 00 ${EXAMPLE} ${hex("GET / HTTP/1.0")}`), {
    written: "0500",
    consumed: 3 + 18,
    end: { command: "connect", destination: EXAMPLE_ENDPOINT, user: undefined },
  });
});

Deno.test("Socks5Server asks for the password when there are users, whatever else is offered", () => {
  const login = `01 05 ${hex("alice")} 0b ${hex("wonder land")}`;
  deepEqual(server5({ users }, `05 03 00 01 02 ${login} 05 01 00 01 c0000201 0050`), {
    written: "05020100",
    consumed: 5 + 19 + 10,
    end: { command: "connect", destination: { host: "192.0.2.1", port: 80 }, user: "alice" },
  });
  const emptyPassword = `01 04 ${hex("bøb")} 00`;
  equal(server5({ users }, `05 01 02 ${emptyPassword} 05 01 00 ${EXAMPLE}`).written, "05020100");
});

Deno.test("Socks5Server refuses wrong credentials without saying which half was wrong", () => {
  const wrong = [
    ["alice", "wrong"],
    ["alice", "wonder lan"],
    ["alice", "wonder land\0"],
    ["alice", ""],
    ["nobody", "wonder land"],
    ["", ""],
  ];
  for (const [user, password] of wrong) {
    const length = (text: string) => text.length.toString(16).padStart(2, "0");
    const login = `01 ${length(user!)} ${hex(user!)} ${length(password!)} ${hex(password!)}`;
    const { written, end } = server5({ users }, `05 01 02 ${login}`);
    deepEqual([written, end], ["05020101", ["bad-credentials", 0, ""]]);
  }
});

Deno.test("Socks5Server refuses a client that offers no acceptable method", () => {
  deepEqual(server5({ users }, "05 02 00 01").end, ["no-acceptable-method", 0, ""]);
  equal(server5({ users }, "05 02 00 01").written, "05ff");
  equal(server5({}, "05 01 01").written, "05ff");
  equal(server5({}, "05 00").written, "05ff");
});

Deno.test("Socks5Server takes any credentials from a client that offers nothing else", () => {
  const { written, end } = server5({}, `05 01 02 01 01 61 01 62 05 01 00 ${EXAMPLE}`);
  equal(written, "05020100");
  deepEqual(end, { command: "connect", destination: EXAMPLE_ENDPOINT, user: undefined });
});

Deno.test("Socks5Server answers what it cannot do with the reply for it", () => {
  const refused = (request: string, options: Socks5ServerOptions = {}) => {
    const { written, end } = server5(options, `05 01 00 ${request}`);
    return [written.slice(4, 8), Array.isArray(end) ? end[0] : end];
  };
  deepEqual(refused(`05 02 00 ${EXAMPLE}`), ["0507", "command-unsupported"]);
  deepEqual(refused(`05 f0 00 ${EXAMPLE}`), ["0507", "command-unsupported"]);
  deepEqual(refused(`05 09 00 ${EXAMPLE}`), ["0507", "command-unsupported"]);
  deepEqual(refused("05 01 00 02 01020304 0050"), ["0508", "address-unsupported"]);
  deepEqual(refused("05 01 00 03 00 0050"), ["0501", "bad-name"]);
  deepEqual(refused("05 01 00 03 02 6120 0050"), ["0501", "bad-name"]);
  deepEqual(refused("04 01 00 01 01020304 0050"), ["", "bad-version"]);
  const { written, end } = server5({}, "06 01 00");
  deepEqual([written, end], ["", ["bad-version", 0, ""]]);
});

Deno.test("Socks5Server reads every command it is told to carry out", () => {
  const commands: readonly Socks5Command[] = [
    "connect",
    "bind",
    "associate",
    "resolve",
    "resolve-ptr",
  ];
  for (const [code, command] of [["01", 0], ["02", 1], ["03", 2], ["f0", 3], ["f1", 4]] as const) {
    const { end } = server5({ commands }, `05 01 00 05 ${code} 00 ${EXAMPLE}`);
    deepEqual(end, { command: commands[command], destination: EXAMPLE_ENDPOINT, user: undefined });
  }
});

Deno.test("Socks5Server reads a name of 255 bytes, which is the longest there is", () => {
  const name = "a".repeat(255);
  const { end } = server5({}, `05 01 00 05 01 00 03 ff ${hex(name)} 0050`);
  deepEqual(end, { command: "connect", destination: { host: name, port: 80 }, user: undefined });
  throws(
    () => new Socks5Client({ command: "connect", destination: { host: name + "a", port: 80 } }),
    RangeError,
  );
});

Deno.test("Socks5Client and Socks5Server agree, with and without a password, whatever is asked for", () => {
  const commands: readonly Socks5Command[] = ["connect", "bind", "associate", "resolve"];
  const hosts = ["example.com", "192.0.2.1", "2001:db8::1", "a".repeat(255)];
  for (const command of commands) {
    for (const host of hosts) {
      for (const login of [undefined, "alice"]) {
        const destination = { host, port: 443 };
        const client = new Socks5Client({
          command,
          destination,
          ...login === undefined ? {} : { username: login, password: "wonder land" },
        });
        const server = new Socks5Server({ commands, ...login === undefined ? {} : { users } });
        const bound = { host: "198.51.100.7", port: 1080 };
        let toServer = client.start();
        for (let turn = 0;; turn++) {
          ok(turn < 5);
          const answer = server.receive(toServer, 0, toServer.length);
          equal(answer.consumed, toServer.length);
          if (answer.kind === "done") {
            deepEqual(answer.outcome, { command, destination, user: login });
            const reply = joinBytes(encodeSocks5Reply(0, bound), [0xde, 0xad]);
            const last = client.receive(reply, 0, reply.length);
            deepEqual(last, { kind: "done", consumed: reply.length - 2, outcome: bound });
            break;
          }
          ok(answer.kind === "write");
          const step = client.receive(answer.bytes, 0, answer.bytes.length);
          ok(step.kind === "write");
          equal(step.consumed, answer.bytes.length);
          toServer = step.bytes;
        }
      }
    }
  }
});

Deno.test("Socks5Client reads the server's side in any cut and leaves the payload behind it", () => {
  const client = () =>
    new Socks5Client({
      command: "connect",
      destination: EXAMPLE_ENDPOINT,
      username: "u",
      password: "p",
    });
  deepEqual(
    converseEveryWay(client, bytesOfHex("05 02 01 00 05 00 00 01 c0000201 1234 aabbcc"), random),
    {
      written: `0101750170` + `050100${EXAMPLE.replaceAll(" ", "")}`,
      consumed: 14,
      end: { host: "192.0.2.1", port: 0x1234 },
    },
  );
  const ends = (input: string) => converseEveryWay(client, bytesOfHex(input), random).end;
  deepEqual(ends("05 00 05 05"), ["reply", 5, "connection refused"]);
  deepEqual(ends("05 00 05 2a"), ["reply", 42, "unknown"]);
  deepEqual(ends("05 02 01 01"), ["bad-credentials", 1, ""]);
  deepEqual(ends("05 02 05 00 05 00 00 01 00000000 0000"), { host: "0.0.0.0", port: 0 });
  deepEqual(ends("05 ff"), ["method-refused", 255, ""]);
  deepEqual(ends("05 01"), ["method-refused", 1, ""]);
  deepEqual(ends("04 00"), ["bad-version", 0, ""]);
  deepEqual(ends("05 00 05 00 00 05 00"), ["bad-address", 0, ""]);
  const anonymous = () => new Socks5Client({ command: "connect", destination: EXAMPLE_ENDPOINT });
  deepEqual(converseEveryWay(anonymous, bytesOfHex("05 02"), random).end, [
    "method-refused",
    2,
    "",
  ]);
});

Deno.test("a failed dial has the reply that tells the client why", () => {
  const replies = ["ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "EACCES"]
    .map((name) => socks5ReplyOf(dialFailureOf(name)));
  deepEqual(replies, [5, 3, 4, 4, 1]);
  deepEqual([socks5ReplyOf("name"), socks5ReplyOf("rule")], [4, 2]);
});

Deno.test("SOCKS5 datagrams are written and read, and fragments are refused", () => {
  const to = { host: "2001:db8::1", port: 53 };
  const datagram = new Uint8Array(64).fill(0xdd);
  const data = writeSocks5DatagramHeader(datagram, 4, to);
  equal(data, 4 + 22);
  equal(socks5DatagramData(datagram, 4, data + 3), data);
  equal(socks5DatagramData(datagram, 4, data), data);
  deepEqual(decodeAddress(datagram, 4 + SOCKS5_DATAGRAM_ADDRESS_AT, data), to);
  for (let end = 4; end < data; end++) ok(socks5DatagramData(datagram, 4, end) < 0);
  datagram[6] = 1;
  equal(socks5DatagramData(datagram, 4, data + 3), REJECT_SOCKS5_FRAGMENT);
  datagram[5] = 1;
  equal(socks5DatagramData(datagram, 4, data + 3), REJECT_SOCKS5_RESERVED);
});

function server4(input: string, options = {}) {
  return converseEveryWay(() => new Socks4Server(options), bytesOfHex(input), random);
}

Deno.test("Socks4Server reads requests by address and, as 4a, by name, and leaves the payload", () => {
  deepEqual(server4(`04 01 0050 c0000201 ${hex("me")} 00 aabb`), {
    written: "",
    consumed: 11,
    end: { command: "connect", destination: { host: "192.0.2.1", port: 80 }, userId: "me" },
  });
  deepEqual(server4(`04 01 01bb 00000001 00 ${hex("Example.com.")} 00 aabb`), {
    written: "",
    consumed: 22,
    end: { command: "connect", destination: EXAMPLE_ENDPOINT, userId: "" },
  });
  // 0.0.0.0 is an address, not the mark of a name.
  deepEqual(server4("04 01 0050 00000000 00").end, {
    command: "connect",
    destination: { host: "0.0.0.0", port: 80 },
    userId: "",
  });
});

Deno.test("Socks4Server refuses long fields, other commands, bad names, and everybody when there are users", () => {
  const longest = "61".repeat(255);
  deepEqual(server4(`04 01 0050 00000001 ${longest} 00 ${longest} 00`).consumed, 8 + 512);
  const tooLong = server4(`04 01 0050 00000001 ${longest}61 00`);
  deepEqual([tooLong.written, tooLong.end], ["", ["field-too-long", 0, ""]]);
  deepEqual(server4(`04 01 0050 00000001 00 ${longest}61 00`).end, ["field-too-long", 0, ""]);
  const refused = (input: string, options = {}) => {
    const { written, end } = server4(input, options);
    return [written.slice(0, 4), Array.isArray(end) ? end[0] : end];
  };
  deepEqual(refused("04 02 0050 c0000201 00"), ["005b", "command-unsupported"]);
  deepEqual(refused("04 09 0050 c0000201 00"), ["005b", "command-unsupported"]);
  deepEqual(refused("04 01 0050 00000001 00 00"), ["005b", "bad-name"]);
  deepEqual(refused("04 01 0050 c0000201 00", { usersRequired: true }), [
    "005d",
    "users-required",
  ]);
  deepEqual(refused("05 01"), ["", "bad-version"]);
  equal(
    converse(new Socks4Server({ bind: true }), bytesOfHex("0402005001020304 00"), () => 99)
      .consumed,
    9,
  );
});

Deno.test("Socks4Client and Socks4Server agree", () => {
  for (const host of ["192.0.2.1", "example.com", "2001:db8::1"]) {
    const client = new Socks4Client({ destination: { host, port: 80 }, userId: "someone" });
    const request = joinBytes(client.start(), [1, 2, 3]);
    const { consumed, end } = converseEveryWay(() => new Socks4Server(), request, random);
    equal(consumed, request.length - 3);
    deepEqual(end, { command: "connect", destination: { host, port: 80 }, userId: "someone" });
    const reply = joinBytes(encodeSocks4Reply(SOCKS4_GRANTED, { host: "192.0.2.9", port: 9 }), [1]);
    const step = client.receive(reply, 0, reply.length);
    deepEqual(step, { kind: "done", consumed: 8, outcome: { host: "192.0.2.9", port: 9 } });
  }
  const client = () => new Socks4Client({ destination: EXAMPLE_ENDPOINT });
  deepEqual(converseEveryWay(client, bytesOfHex("00 5b 0000 00000000"), random).end, [
    "reply",
    0x5b,
    "",
  ]);
  deepEqual(converseEveryWay(client, bytesOfHex("48 54"), random).end, ["bad-version", 0, ""]);
  throws(() => new Socks4Client({ destination: EXAMPLE_ENDPOINT, userId: "a\0b" }), TypeError);
});

Deno.test("chooseMixedProtocol() tells by the first byte", () => {
  const chosen = ["04", "05", "47", "16", "00"].map((byte) =>
    chooseMixedProtocol(parseInt(byte, 16))
  );
  deepEqual(chosen, ["socks4", "socks5", "http", "http", "http"]);
});

Deno.test("SOCKS machines survive hostile bytes", () => {
  const seed = 17;
  const good = [
    `05 01 00 05 01 00 ${EXAMPLE}`,
    `05 03 00 01 02 01 05 ${hex("alice")} 0b ${hex("wonder land")} 05 03 00 01 00000000 0000`,
    `04 01 01bb 00000001 00 ${hex("example.com")} 00`,
    "05 02 01 00 05 00 00 01 c0000201 1234",
    "00 5a 1234 c0000201",
  ].map(bytesOfHex);
  good.push(joinBytes([0, 0, 0], encodeAddress(EXAMPLE_ENDPOINT), [1, 2, 3]));
  const packets = new HostilePackets(seededRandom(seed), good, 300);
  const rounds = Deno.env.get("FASTWIRE_LONG") === "1" ? 1_000_000 : 100_000;
  for (let i = 0; i < rounds; i++) {
    packets.next();
    const { bytes, start, end } = packets;
    try {
      if (i % 4 === 0) abuse(new Socks5Server(i % 8 === 0 ? { users } : {}), bytes, start, end);
      if (i % 4 === 1) abuse(new Socks4Server(), bytes, start, end);
      if (i % 4 === 2) {
        const destination = EXAMPLE_ENDPOINT;
        abuse(new Socks5Client({ command: "connect", destination }), bytes, start, end);
        abuse(new Socks4Client({ destination }), bytes, start, end);
      }
      const data = socks5DatagramData(bytes, start, end);
      ok(data <= end);
    } catch (error) {
      throw new Error(`seed ${seed}, round ${i}`, { cause: error });
    }
  }
});
