/**
 * The kernel boundary: sockets, files and threads with two drivers each, one through the C library, one portable, that
 * behave alike.
 *
 * The kernel drivers need Deno on Linux and `--allow-ffi`; without either everything works through the portable ones,
 * slower. Nothing here asks for a permission, and importing opens nothing. `docs/kernel.md` says what each fast path
 * costs and gains.
 *
 * @example
 * ```ts
 * import { openDatagramHost, readAddress } from "@fastwire/net/ffi";
 * import { equal } from "node:assert/strict";
 *
 * await using host = await openDatagramHost();
 * const socket = await host.open({ bind: { family: "ipv4", address: "127.0.0.1", port: 0 } });
 * equal(socket.local.address, "127.0.0.1");
 * ```
 *
 * @module
 */
export {
  ADDRESS_BYTES,
  addressLength,
  copyAddress,
  equalAddress,
  equalHost,
  formatAddress,
  hashAddress,
  parseIpv4,
  parseIpv6,
  readAddress,
  type SocketAddress,
  unmapAddress,
  writeAddress,
} from "./address.ts";
export {
  type Aead,
  AEAD_SIZES,
  type AeadDriver,
  type AeadMethod,
  type AeadOptions,
  type AeadProvider,
  type BlockCipher,
  openAeads,
  TAG_BYTES,
} from "./aead.ts";
export { type DescriptorSource, processDescriptors } from "./descriptors.ts";
export { fromRuntimeError } from "./errno.ts";
export { literalAddress, resolveHost, splitHost } from "./resolve.ts";
export {
  type Capabilities,
  capabilities,
  type Capability,
  type CapabilityReason,
  type DriverChoice,
  type Feature,
  resolveDriver,
} from "./capabilities.ts";
export {
  BROADCAST_PORT,
  DatagramBatch,
  type DatagramCounters,
  type DatagramError,
  type DatagramHost,
  type DatagramHostOptions,
  type DatagramOptions,
  type DatagramSocket,
  type DatagramTraits,
  type Driver,
  openDatagramHost,
} from "./datagram.ts";
export {
  type FileTraits,
  type OpenFile,
  openRoot,
  type PendingFile,
  type RootDirectory,
  type RootOptions,
  type Symlinks,
} from "./file.ts";
export { releaseMemory } from "./memory.ts";
export { type CpuSample, type CpuSampler, cpuSampler } from "./cpu.ts";
export {
  EVENT_TRUESIZE_BYTES,
  type NetlinkConsumer,
  type NetlinkCounters,
  type NetlinkHost,
  type NetlinkHostOptions,
  type NetlinkLoss,
  type NetlinkMemory,
  type NetlinkOptions,
  type NetlinkSocket,
  type NetlinkTraits,
  openNetlinkHost,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from "./netlink.ts";
export { type NotifierOptions, openServiceNotifier, type ServiceNotifier } from "./notify.ts";
export { openPacketSender, type PacketSender, type PacketSenderOptions } from "./packet.ts";
export { CALM, type Reactor, type Watch } from "./reactor.ts";
export {
  type CopyRelayHost,
  type CopyStream,
  openCopyRelayHost,
  openRelayHost,
  type Relay,
  type RelayDirection,
  type RelayEnd,
  type RelayHost,
  type RelayHostOptions,
  type RelayOptions,
  type RelayResult,
  type RelayTraits,
} from "./relay.ts";
export { LINGER_MS, openSharedLoop, type ReactorChoice, type SharedLoop } from "./shared_loop.ts";
export {
  type ConnectOptions,
  type ConstantBuffer,
  type DialOptions,
  type ListenOptions,
  MOST_PIECES,
  openStreamHost,
  STREAM_END,
  STREAM_FAILED,
  type StreamConnection,
  type StreamCounters,
  streamError,
  type StreamFailure,
  type StreamHost,
  type StreamHostOptions,
  type StreamInfo,
  type StreamListener,
  type StreamOptions,
  type StreamPieces,
  type StreamTraits,
  WOULD_BLOCK,
} from "./stream.ts";
export { Slab } from "../internal/bytes/slab.ts";
export {
  startThread,
  type Thread,
  type ThreadOptions,
  type ThreadPort,
  threadPort,
} from "./worker.ts";
export {
  AuthError,
  CapabilityError,
  DeadlineError,
  FastwireError,
  type FastwireErrorOptions,
  LimitError,
  PeerError,
  ProtocolError,
  SystemError,
} from "../internal/errors.ts";
