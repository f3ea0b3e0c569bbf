/**
 * The protocols of the proxy as values: SOCKS 4, 4a and 5, HTTP, Shadowsocks of 2017 and 2022, and what the first bytes of
 * a connection say about it. Nothing here opens, waits or reads a clock; bring your own sockets, ciphers and randomness.
 *
 * A handshake is fed what has arrived and answers with a {@linkcode Step}: what to send, what was agreed on, and how many
 * bytes it has used. Bytes behind those belong to whatever comes next, and are never lost.
 *
 * ```ts
 * import { encodeSocks5Reply, Socks5Server } from "@fastwire/net/proxy/protocol";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const server = new Socks5Server();
 * // A greeting, a request and the first words of a client that does not wait, all at once.
 * const arrived = Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80, 71, 69, 84);
 * let at = 0;
 * const choice = server.receive(arrived, at, arrived.length);
 * deepEqual(choice, { kind: "write", consumed: 3, bytes: Uint8Array.of(5, 0) });
 * at += choice.consumed;
 * const request = server.receive(arrived, at, arrived.length);
 * if (request.kind !== "done") throw new Error("the request is complete");
 * deepEqual(request.outcome, {
 *   command: "connect",
 *   destination: { host: "192.0.2.1", port: 80 },
 *   user: undefined,
 * });
 * at += request.consumed;
 * equal(new TextDecoder().decode(arrived.subarray(at)), "GET");
 * // Once the destination answers:
 * equal(encodeSocks5Reply(0).length, 10);
 * ```
 *
 * A stream of Shadowsocks is a `StreamSealer` and a `StreamOpener`: both work on the bytes where they lie.
 *
 * @module
 */

export {
  ADDRESS_REJECT_NAMES,
  ANY_ENDPOINT,
  decodeAddress,
  encodeAddress,
  type Endpoint,
  EndpointCache,
  formatEndpoint,
  MAX_ADDRESS_BYTES,
  measureAddress,
  normalizeHost,
  parseEndpoint,
  REJECT_ADDRESS_NAME,
  REJECT_ADDRESS_ROOM,
  REJECT_ADDRESS_SHORT,
  REJECT_ADDRESS_TYPE,
  writeAddress,
} from "./address.ts";
export {
  type Aead,
  type AeadFactory,
  type AeadMethod,
  type BlockCipher,
  type BlockCipherFactory,
  type RandomSource,
} from "./aead.ts";
export {
  CHUNK_HEAD_BYTES,
  ChunkOpener,
  ChunkSealer,
  MAX_RANGES,
  type StreamOpener,
  type StreamSealer,
} from "./aead_chunk.ts";
export { type ClientHello, decodeClientHello, guessClient } from "./client_hello.ts";
export { type Credential, UserTable } from "./credentials.ts";
export { HttpBody, MAX_BODY_RANGES, MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES } from "./http_body.ts";
export {
  HttpConnectClient,
  type HttpConnectOptions,
  type HttpConnectReason,
} from "./http_connect.ts";
export { type HttpFraming, MAX_HEAD_BYTES, MAX_HEAD_FIELDS } from "./http_head.ts";
export {
  encodeHttpAnswer,
  encodeTunnelOpened,
  type HttpForwardRequest,
  type HttpProxyReason,
  type HttpProxyRequest,
  HttpProxyServer,
  httpStatusOf,
  type HttpTunnelRequest,
} from "./http_proxy.ts";
export {
  type HttpAnswered,
  type HttpProxyResponse,
  HttpResponseMachine,
  type HttpResponseReason,
} from "./http_response.ts";
export { ipFamilyOf, writeIpText } from "./ip_text.ts";
export { chooseMixedProtocol, type MixedProtocol } from "./mixed.ts";
export {
  REPLAY_WINDOW_PACKETS,
  ReplayWindow,
  SaltFilter,
  type SaltFilterOptions,
} from "./replay.ts";
export {
  createShadowsocksClient,
  createShadowsocksPacketClient,
  createShadowsocksPacketServer,
  createShadowsocksServer,
} from "./shadowsocks.ts";
export {
  MAX_CLOCK_SKEW_SECONDS,
  MAX_PADDING_BYTES,
  type PaddingPolicy,
} from "./shadowsocks2022_stream.ts";
export {
  resolveShadowsocksProfile,
  SHADOWSOCKS_METHODS,
  type ShadowsocksMethod,
  type ShadowsocksMethodParts,
  type ShadowsocksProfile,
  type ShadowsocksUser,
  ShadowsocksUserTable,
} from "./shadowsocks_method.ts";
export {
  PACKET_REJECT_NAMES,
  REJECT_PACKET_ADDRESS,
  REJECT_PACKET_FORGED,
  REJECT_PACKET_REPLAYED,
  REJECT_PACKET_SESSION,
  REJECT_PACKET_SHORT,
  REJECT_PACKET_TIME,
  REJECT_PACKET_TYPE,
  REJECT_PACKET_USER,
  type ShadowsocksPacketClient,
  type ShadowsocksPacketOpener,
  type ShadowsocksPacketServer,
  type ShadowsocksPacketSession,
} from "./shadowsocks_packet.ts";
export {
  IDENTITY_BYTES,
  relayShadowsocksStream,
  ShadowsocksPacketRelay,
  type ShadowsocksRelayOptions,
  ShadowsocksRelaySession,
} from "./shadowsocks_relay.ts";
export {
  type ShadowsocksClientStream,
  type ShadowsocksServerOptions,
  type ShadowsocksServerStream,
  type ShadowsocksTools,
} from "./shadowsocks_stream.ts";
export {
  MAX_SNIFFED_HEAD_BYTES,
  type SniffAnswer,
  sniffBitTorrentDatagram,
  sniffBitTorrentStream,
  sniffDatagram,
  sniffDns,
  sniffDnsStream,
  sniffDtls,
  type Sniffed,
  type SniffedProtocol,
  type Sniffer,
  sniffHttp,
  sniffNtp,
  sniffRdp,
  sniffSsh,
  sniffStream,
  sniffStun,
  sniffTls,
} from "./sniff.ts";
export { MAX_QUIC_CRYPTO_BYTES, MAX_QUIC_DATAGRAMS, QuicSniffer } from "./sniff_quic.ts";
export * from "./socks4.ts";
export * from "./socks5.ts";
export {
  type DialFailure,
  dialFailureOf,
  type DoneStep,
  type NeedStep,
  type RefusedStep,
  type Step,
  type WriteStep,
} from "./step.ts";
