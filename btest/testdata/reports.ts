/** Intervals and results for tests of what is told about them. */
import type { ServerEvent, SessionInfo, TestInterval, TestResult } from "../api_types.ts";

/** A second in which nothing happened, but for what is given. */
export function interval(given: Partial<TestInterval> = {}): TestInterval {
  return {
    second: 1,
    elapsedMs: 1000,
    intervalMs: 1000,
    txBytes: 0,
    rxBytes: 0,
    lost: 0,
    reordered: 0,
    duplicates: 0,
    localDrops: 0,
    localCpu: undefined,
    remoteCpu: undefined,
    peerReceivedBytes: undefined,
    ...given,
  };
}

/** A test in which nothing happened, but for what is given. */
export function result(given: Partial<TestResult> = {}): TestResult {
  return {
    txBytes: 0,
    rxBytes: 0,
    txBps: 0,
    rxBps: 0,
    peerReceivedBytes: 0,
    lost: 0,
    reordered: 0,
    duplicates: 0,
    localDrops: 0,
    datagramsReceived: 0,
    datagramsSent: 0,
    elapsedMs: 10_000,
    localCpu: undefined,
    remoteCpu: undefined,
    auth: "none",
    connections: 1,
    driver: "linux",
    workers: 0,
    reason: "duration",
    warnings: [],
    ...given,
  };
}

/** A session of a user, but for what is given. */
export function session(given: Partial<SessionInfo> = {}): SessionInfo {
  return {
    id: 1,
    peer: { family: "ipv4", address: "192.0.2.1", port: 40_000 },
    user: "admin",
    auth: "ecsrp5",
    protocol: "tcp",
    direction: "transmit",
    connections: 1,
    ...given,
  };
}

/** A refused login of a user with this name. */
export function refusal(user: string): ServerEvent {
  return { kind: "refused", peer: session().peer, user, reason: "auth-failed" };
}
