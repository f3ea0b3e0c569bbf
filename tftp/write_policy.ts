/**
 * What may be uploaded: the rules, and the account of what is being uploaded. Pure; stores ask it before and while they
 * write.
 *
 * @module
 */
import { compileGlobs, isCatchAll } from "./glob.ts";
import { accessViolation, diskFull, fileExists, notFound } from "./refusal.ts";
import { resolveName } from "./path_policy.ts";
import type { ResolvedWriteSettings } from "./settings.ts";

/** The rules of uploads. What becomes of a size that differs from the announced one is decided by the server. */
export type WritePolicy = Omit<ResolvedWriteSettings, "rejectSizeMismatch">;

/** No uploads; and what a policy says that switches them on and nothing else. */
export const WRITE_POLICY: WritePolicy = Object.freeze({
  enabled: false,
  allowOverwrite: false,
  allowCreate: true,
  allowedPatterns: Object.freeze([]),
  deniedPatterns: Object.freeze([]),
  allowAny: false,
  maxFileBytes: 104_857_600,
  maxTotalBytes: 0,
  minFreeBytes: 0,
  makeDirectories: false,
  fileMode: 0o640,
  sync: "close",
  keepPartial: false,
  uniqueNames: false,
  directory: undefined,
});

/** Uploads of one store: which names are being written, and how many bytes that makes. */
export class Uploads {
  readonly policy: WritePolicy;
  /** What stands before every name: the directory of uploads and a slash, or nothing. */
  readonly prefix: string;
  readonly #allowed: (name: string) => boolean;
  readonly #denied: (name: string) => boolean;
  readonly #names = new Set<string>();
  #bytes = 0;

  /**
   * @throws {RangeError} When uploads are switched on and no pattern says which, or one says "all" without `allowAny`;
   * when their directory cannot be one beneath the root.
   * @throws {SyntaxError} For a pattern that does not compile.
   */
  constructor(policy: WritePolicy) {
    if (policy.enabled) {
      if (policy.allowedPatterns.length === 0) {
        throw new RangeError(
          "Cannot accept uploads: there are no allowed patterns, expected at least one",
        );
      }
      const all = policy.allowedPatterns.find(isCatchAll);
      if (all !== undefined && !policy.allowAny) {
        throw new RangeError(
          `Cannot accept uploads: pattern "${all}" allows every name, expected allowAny with it`,
        );
      }
    }
    this.policy = policy;
    this.prefix = prefixOf(policy.directory);
    this.#allowed = compileGlobs(policy.allowedPatterns);
    this.#denied = compileGlobs(policy.deniedPatterns);
  }

  /** Bytes of all uploads so far, finished and running, that count against `maxTotalBytes`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Uploads running now. */
  get running(): number {
    return this.#names.size;
  }

  /**
   * Starts an upload.
   *
   * @param name The resolved name, `ResolvedName.text`; patterns are matched on it.
   * @param announced Bytes the client says it will send.
   * @param exists Whether a name is taken in the store.
   * @returns The upload; its name may have got a number.
   * @throws {TftpRefusal} When the policy, the name or the size forbids it.
   */
  begin(name: string, announced: number | undefined, exists: (name: string) => boolean): Upload {
    const { policy } = this;
    if (!policy.enabled || !this.#allowed(name) || this.#denied(name) || isPartName(name)) {
      throw accessViolation();
    }
    let target = name;
    if (policy.uniqueNames && !policy.allowOverwrite) {
      // Every upload makes a new file then.
      if (!policy.allowCreate) throw accessViolation();
      for (let n = 1; this.#names.has(target) || exists(target); n++) {
        if (n > MAX_UNIQUE) throw fileExists();
        target = `${name}.${n}`;
      }
    } else {
      if (this.#names.has(target)) throw fileExists("File is being uploaded");
      const taken = exists(target);
      if (taken && !policy.allowOverwrite) throw fileExists();
      if (!taken && !policy.allowCreate) throw notFound();
    }
    const upload = new Upload(this, target);
    if (announced !== undefined) upload.claim(announced);
    this.#names.add(target);
    return upload;
  }

  /** Adds to the account. @throws {TftpRefusal} Beyond `maxTotalBytes`. */
  charge(bytes: number): void {
    const { maxTotalBytes } = this.policy;
    if (maxTotalBytes > 0 && this.#bytes + bytes > maxTotalBytes) throw diskFull();
    this.#bytes += bytes;
  }

  /** Takes an upload off the list, and what it did not keep off the account. */
  end(name: string, unused: number): void {
    this.#names.delete(name);
    this.#bytes -= unused;
  }
}

/** One running upload. */
export class Upload {
  /** The name it will have. */
  readonly name: string;
  readonly #uploads: Uploads;
  #claimed = 0;
  #ended = false;

  constructor(uploads: Uploads, name: string) {
    this.#uploads = uploads;
    this.name = name;
  }

  /** Makes sure that a file of `bytes` bytes is within the limits. @throws {TftpRefusal} */
  claim(bytes: number): void {
    if (bytes <= this.#claimed) return;
    const { maxFileBytes } = this.#uploads.policy;
    if (maxFileBytes > 0 && bytes > maxFileBytes) throw diskFull("File too large");
    this.#uploads.charge(bytes - this.#claimed);
    this.#claimed = bytes;
  }

  /** It is over, and `kept` bytes stay. Idempotent. */
  end(kept: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#uploads.end(this.name, this.#claimed - kept);
  }
}

/**
 * Whether a path is that of an unfinished upload. Such a name is given to nobody: half a file is worse than none.
 */
export function isPartName(path: string): boolean {
  return /(?:^|\/)\.[^/]*\.[0-9a-f]{16}\.part$/.test(path);
}

function prefixOf(directory: string | undefined): string {
  if (directory === undefined) return "";
  const quirks = { trimGarbage: false, backslash: false, windowsNames: false };
  const resolved = resolveName(directory, undefined, quirks);
  if (!("refused" in resolved)) return `${resolved.text}/`;
  if (resolved.refused === "empty") return "";
  throw new RangeError(
    `Cannot accept uploads: directory "${directory}" is refused (${resolved.refused}), ` +
      "expected a path beneath the root",
  );
}

/** Numbers tried for a unique name. */
const MAX_UNIQUE = 9999;
