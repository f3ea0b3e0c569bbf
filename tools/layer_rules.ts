/**
 * What may depend on what, as data and predicates over one edge. The prose is in the architecture's §3.
 *
 * @module
 */

/** One dependency between two files, or of a file on a package or a built-in module. */
export interface Edge {
  /** Path below the root. */
  readonly from: string;
  /** Path below the root, a package name, or `node:…`. */
  readonly to: string;
  readonly kind: "code" | "type" | "dynamic";
  readonly target: "file" | "package" | "builtin";
  /** As written in the source. */
  readonly specifier: string;
}

/** Says what an edge breaks, or nothing. */
export interface Rule {
  readonly name: string;
  readonly broken: (edge: Edge) => boolean;
}

/** A package and the places that may import it (L9), and whether it must wait for its first use (L11). */
export interface PackagePlace {
  readonly places: RegExp;
  readonly loaded: "with the importer" | "on first use";
}

/** L9 and L11, for the packages that are used now. */
export const PACKAGES: Readonly<Record<string, PackagePlace>> = {
  "valibot": {
    places: /^internal\/schema\.ts$|\/options(?:_[a-z]+)?\.ts$/,
    loaded: "with the importer",
  },
  "@logtape/logtape": {
    places: /^internal\/(?:log|cli\/logging)\.ts$/,
    loaded: "with the importer",
  },
  "@stricli/core": { places: /^internal\/cli\//, loaded: "with the importer" },
  "cli-progress": { places: /^internal\/cli\/progress\.ts$/, loaded: "on first use" },
  "@noble/ciphers": { places: /^ffi\/aead_noble\.ts$/, loaded: "with the importer" },
  "@noble/curves": { places: /^(?:btest|proxy)\/protocol\//, loaded: "with the importer" },
  "@noble/hashes": { places: /^(?:btest|proxy)\/protocol\//, loaded: "with the importer" },
  "@redis/client": { places: /^internal\/redis(?:_wire)?\.ts$/, loaded: "on first use" },
  "@valibot/to-json-schema": {
    places: /^internal\/cli\/schema_command\.ts$/,
    loaded: "with the importer",
  },
  "jsonc-parser": { places: /^proxy\/config_file\.ts$/, loaded: "on first use" },
  "prom-client": { places: /^internal\/prometheus\.ts$/, loaded: "on first use" },
  "hono": {
    places: /^internal\/http\/|^(?:btest\/pro\/dashboard|proxy\/clash_api|neighsync\/rest)\.ts$/,
    loaded: "on first use",
  },
  "smol-toml": { places: /^neighsync\/config_file\.ts$/, loaded: "on first use" },
  "fast-check": { places: /^internal\/testing\//, loaded: "with the importer" },
};

/** What each export may load besides our own files before anything is called (ecosystem §2.1). */
export const STATIC_PACKAGES: Readonly<Record<string, readonly string[]>> = {
  ".": ["@logtape/logtape", "@noble/curves", "@noble/hashes", "valibot"],
  "./ffi": ["@logtape/logtape"],
  "./tftp": ["@logtape/logtape", "valibot"],
  "./tftp/protocol": [],
  "./btest": ["@logtape/logtape", "@noble/curves", "@noble/hashes", "valibot"],
  "./btest/protocol": ["@noble/curves", "@noble/hashes"],
  "./neighsync": ["@logtape/logtape", "valibot"],
  "./neighsync/protocol": [],
  "./proxy": ["@logtape/logtape", "@noble/hashes", "valibot"],
  "./proxy/protocol": ["@noble/hashes"],
};

const LIBRARIES = ["btest", "tftp", "proxy", "neighsync"];
const SUFFIXED = /_(?:linux|bsd|deno|node|web|noble|iproute)\.ts$/;

/** The first folder, or `""` for the files beside `deno.json`. */
function topOf(path: string): string {
  const slash = path.indexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

function isLibrary(path: string): boolean {
  return LIBRARIES.includes(topOf(path));
}

function isProtocol(path: string): boolean {
  return isLibrary(path) && path.split("/")[1] === "protocol";
}

function isOutside(path: string): boolean {
  return ["tools", "bench", "examples", "contrib", "docs"].includes(topOf(path));
}

/** Every rule about single edges. L2 and L10 are lint rules, L7 and the static packages look at the whole graph. */
export const RULES: readonly Rule[] = [
  {
    name:
      "L1 protocol code imports only itself, internal/bytes/, internal/errors.ts and internal/check.ts",
    broken: ({ from, to, target }) => {
      if (!isProtocol(from)) return false;
      if (target === "builtin") return true;
      if (target === "package") return !/^@noble\/(?:curves|hashes)$/.test(to);
      if (topOf(from) === topOf(to) && isProtocol(to)) return false;
      return !/^internal\/(?:bytes\/[^/]+|errors|check)\.ts$/.test(to);
    },
  },
  {
    name: "L3 a library imports ffi/mod.ts, and types of ffi/ files without a suffix",
    broken: ({ from, to, kind }) =>
      isLibrary(from) && topOf(to) === "ffi" && to !== "ffi/mod.ts" &&
      !(kind === "type" && !SUFFIXED.test(to)),
  },
  {
    name: "L4 a driver is reached by await import() from a file of its own folder",
    broken: ({ from, to, kind, target }) => {
      if (target !== "file" || !SUFFIXED.test(to) || kind === "type" || isOutside(from)) {
        return false;
      }
      if (topOf(from) !== topOf(to)) return true;
      // capabilities() answers at once, so its probe cannot wait for an import; probing opens nothing by being loaded.
      if (from === "ffi/capabilities.ts" && to === "ffi/probe_linux.ts") return false;
      // Drivers build on drivers, and a worker's entry is loaded by a driver only.
      return kind === "code" && !SUFFIXED.test(from) && !from.endsWith("_worker.ts");
    },
  },
  {
    name: "L5 no library imports another library; only the root files see several",
    broken: ({ from, to, target }) =>
      target === "file" && isLibrary(to) && topOf(from) !== topOf(to) && topOf(from) !== "" &&
      !isOutside(from),
  },
  {
    name: "L6 internal/ imports internal/, and ffi/mod.ts from http/, cli/ and testing/",
    broken: ({ from, to, kind, target }) => {
      if (topOf(from) !== "internal" || target !== "file" || topOf(to) === "internal") return false;
      const mayUseFfi = /^internal\/(?:http|cli|testing)\//.test(from) && topOf(to) === "ffi";
      return !(mayUseFfi && (to === "ffi/mod.ts" || kind === "type" && !SUFFIXED.test(to)));
    },
  },
  {
    name: "L6 only the root, examples, benches and tools import the root files",
    broken: ({ from, to, target }) =>
      target === "file" && topOf(to) === "" && topOf(from) !== "" && !isOutside(from),
  },
  {
    name: "L6 nothing that is published imports what is not",
    broken: ({ from, to, target }) =>
      target === "file" && !isOutside(from) && !from.startsWith("internal/testing/") &&
      (isOutside(to) || to.startsWith("internal/testing/")),
  },
  {
    name: "L8 examples and benches import by public name",
    broken: ({ from, to, target, specifier }) => {
      if (target !== "file" || !/^(?:examples|bench)\//.test(from)) return false;
      if (topOf(to) === topOf(from)) return false;
      // Benches start the same real programs and namespaces as the interoperability tests.
      if (topOf(from) === "bench" && to.startsWith("internal/testing/")) return false;
      return !specifier.startsWith("@fastwire/net");
    },
  },
  {
    name: "L9 a package is imported at its place only",
    broken: ({ from, to, target }) => {
      if (target !== "package" || isOutside(from)) return false;
      return PACKAGES[to] === undefined || !PACKAGES[to].places.test(from);
    },
  },
  {
    name: "L11 a heavy package is loaded on first use, by await import()",
    broken: ({ from, to, kind, target }) =>
      target === "package" && kind === "code" && !isOutside(from) &&
      PACKAGES[to]?.loaded === "on first use",
  },
];
