/**
 * The drivers that tests of a whole proxy run with.
 *
 * @module
 */

import { resolveDriver } from "../../ffi/mod.ts";
import type { ContractDriver } from "../../internal/testing/contract.ts";

/** A driver of a proxy, as its option names it. */
export type ProxyDriver = "fast" | "portable";

/** The rows of a contract's table. */
export const PROXY_DRIVERS: Readonly<Record<ProxyDriver, ContractDriver<ProxyDriver>>> = {
  fast: {
    missing: () => resolveDriver("auto", ["ffi", "splice", "epoll", "eventfd"]).reason,
    open: () => "fast",
  },
  portable: { missing: () => "", open: () => "portable" },
};
