/**
 * What survives a restart: choices made by hand, the mode of the control interface, and invented addresses. One SQLite
 * file, written in batches beside the traffic; whatever ends the process leaves a file that can be read.
 *
 * @module
 */

import { open as openFile, rename } from "node:fs/promises";
import { resolve as resolvePath } from "node:path";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { logger } from "../internal/log.ts";
import type { CacheFileConfig } from "./config_types.ts";
import type { FakeipStore } from "./dns_fakeip.ts";
import type { SelectionStore } from "./groups.ts";

/** State kept in a file, as one configuration sees it. */
export class CacheFile implements FakeipStore, SelectionStore {
  readonly #database: Database;
  readonly #config: CacheFileConfig;
  #closed = false;

  private constructor(database: Database, config: CacheFileConfig) {
    this.#database = database;
    this.#config = config;
  }

  /**
   * Opens a file, and makes it where there is none. One that cannot be read is put aside.
   *
   * @param folder What a relative path begins at.
   * @param former The one that was used so far: one process opens a file once.
   * @returns `undefined` when there is none to be had; why was logged. A proxy that forgets is better than none.
   */
  static async open(
    config: CacheFileConfig,
    folder = ".",
    former?: CacheFile,
  ): Promise<CacheFile | undefined> {
    const path = resolvePath(folder, config.path);
    if (former !== undefined && former.#database.path === path) {
      if (JSON.stringify(former.#config) === JSON.stringify(config)) return former;
      former.#database.share();
      return new CacheFile(former.#database, config);
    }
    try {
      return new CacheFile(await Database.open(path), config);
    } catch (error) {
      log.warning("state is not kept: cannot use {path}: {error}", { path, error });
      return undefined;
    }
  }

  /** Whether invented addresses are kept. */
  get storesFakeip(): boolean {
    return this.#config.storeFakeip;
  }

  /** The mode at the end of the last run. */
  get mode(): string | undefined {
    return this.#read("mode", "");
  }

  /** Keeps a mode. */
  saveMode(mode: string): void {
    this.#write("mode", "", mode);
  }

  selected(group: string): string | undefined {
    return this.#read("selector", group);
  }

  select(group: string, member: string): void {
    this.#write("selector", group, member);
  }

  names(block: string): readonly (readonly [place: number, name: string])[] {
    return this.#database.names(this.#config.cacheId, block);
  }

  given(block: string): number {
    const count = Number(this.#read("given", block) ?? 0);
    return Number.isSafeInteger(count) && count >= 0 ? count : 0;
  }

  reserve(block: string, given: number, places: readonly number[]): void {
    this.#write("given", block, `${given}`);
    if (!this.#closed) this.#database.forget(this.#config.cacheId, block, places);
  }

  assign(block: string, place: number, name: string): void {
    if (!this.#closed) this.#database.assign(this.#config.cacheId, block, place, name);
  }

  clear(block: string): void {
    if (!this.#closed) this.#database.clear(this.#config.cacheId, block);
  }

  /** Writes what is not written yet, and lets go of the file. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#database.release();
  }

  #read(kind: string, name: string): string | undefined {
    return this.#database.read([this.#config.cacheId, kind, name]);
  }

  #write(kind: string, name: string, value: string): void {
    if (!this.#closed) this.#database.write([this.#config.cacheId, kind, name], value);
  }
}

type Key = readonly [cacheId: string, kind: string, name: string];
type Place = readonly [cacheId: string, block: string, place: number];

/** The file itself, and what is to be written into it. */
class Database {
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #readValue: StatementSync;
  readonly #writeValue: StatementSync;
  readonly #writeName: StatementSync;
  readonly #forgetName: StatementSync;
  /** What changed, by its key: whatever changes twice is written once. */
  readonly #values = new Map<string, readonly [Key, string]>();
  readonly #names = new Map<string, readonly [Place, string | undefined]>();
  #users = 1;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #warned = false;

  private constructor(path: string, database: DatabaseSync) {
    this.path = path;
    this.#database = database;
    this.#readValue = database.prepare(
      "SELECT value FROM state WHERE cache_id = ? AND kind = ? AND name = ?",
    );
    this.#writeValue = database.prepare("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)");
    this.#writeName = database.prepare("INSERT OR REPLACE INTO fakeip VALUES (?, ?, ?, ?)");
    this.#forgetName = database.prepare(
      "DELETE FROM fakeip WHERE cache_id = ? AND block = ? AND place = ?",
    );
  }

  static async open(path: string): Promise<Database> {
    // Names that were asked for are nobody else's business; an existing file keeps its mode.
    await (await openFile(path, "a", 0o600)).close();
    const { DatabaseSync } = await import("node:sqlite");
    const attempt = (): Database => {
      const database = new DatabaseSync(path);
      try {
        prepare(database);
        return new Database(path, database);
      } catch (error) {
        database.close();
        throw error;
      }
    };
    try {
      return attempt();
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      const aside = await putAside(path);
      log.warning("put {path} aside as {aside}: {error}", { path, aside, error });
      await (await openFile(path, "a", 0o600)).close();
      return attempt();
    }
  }

  share(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users > 0) return void this.flush();
    while (this.#isDirty && this.flush());
    clearTimeout(this.#timer);
    this.#database.close();
  }

  read(key: Key): string | undefined {
    const waiting = this.#values.get(key.join("\0"));
    if (waiting !== undefined) return waiting[1];
    const row = this.#try("read", () => this.#readValue.get(...key));
    return typeof row?.["value"] === "string" ? row["value"] : undefined;
  }

  write(key: Key, value: string): void {
    this.#values.set(key.join("\0"), [key, value]);
    this.#schedule();
  }

  names(cacheId: string, block: string): readonly (readonly [number, string])[] {
    const query = "SELECT place, name FROM fakeip WHERE cache_id = ? AND block = ? ORDER BY place";
    const rows = this.#try("read", () => this.#database.prepare(query).all(cacheId, block));
    return (rows ?? []).map(({ place, name }) => [Number(place), String(name)]);
  }

  assign(cacheId: string, block: string, place: number, name: string): void {
    this.#names.set(`${cacheId}\0${block}\0${place}`, [[cacheId, block, place], name]);
    this.#schedule();
  }

  /** Forgets who had some places, and writes that and what waits now. */
  forget(cacheId: string, block: string, places: readonly number[]): void {
    for (const place of places) {
      this.#names.set(`${cacheId}\0${block}\0${place}`, [[cacheId, block, place], undefined]);
    }
    while (this.#isDirty && this.flush());
  }

  clear(cacheId: string, block: string): void {
    for (const [key, [[id, other]]] of this.#names) {
      if (id === cacheId && other === block) this.#names.delete(key);
    }
    this.#try(
      "write",
      () =>
        this.#database.prepare("DELETE FROM fakeip WHERE cache_id = ? AND block = ?")
          .run(cacheId, block),
    );
  }

  /**
   * Writes what changed in one transaction: all of it is in the file afterwards, or nothing. Of a long list only the
   * beginning is taken.
   *
   * @returns Whether it was written.
   */
  flush(): boolean {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const names: (readonly [string, readonly [Place, string | undefined]])[] = [];
    for (const each of this.#names) if (names.push(each) === MOST_AT_ONCE) break;
    const done = this.#try("write", () => {
      this.#database.exec("BEGIN IMMEDIATE");
      try {
        for (const [key, value] of this.#values.values()) this.#writeValue.run(...key, value);
        for (const [, [place, name]] of names) {
          if (name === undefined) this.#forgetName.run(...place);
          else this.#writeName.run(...place, name);
        }
        this.#database.exec("COMMIT");
      } catch (error) {
        try {
          this.#database.exec("ROLLBACK");
        } catch {
          // It never began, or SQLite has ended it already.
        }
        throw error;
      }
      this.#values.clear();
      for (const [key] of names) this.#names.delete(key);
      this.#warned = false;
      return true;
    });
    if (this.#isDirty) this.#schedule();
    return done === true;
  }

  get #isDirty(): boolean {
    return this.#values.size + this.#names.size > 0;
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => this.flush(), this.#warned ? RETRY_MS : FLUSH_MS);
  }

  /** A disk that is full must not end a proxy; what could not be written is tried again. */
  #try<T>(what: "read" | "write", attempt: () => T): T | undefined {
    try {
      return attempt();
    } catch (error) {
      if (!this.#warned) log.warning(`cannot ${what} {path}: {error}`, { path: this.path, error });
      this.#warned = true;
      return undefined;
    }
  }
}

/** Looks whether the file is ours and whole, and makes its tables. */
function prepare(database: DatabaseSync): void {
  const pragma = (name: string): unknown => {
    const row = database.prepare(`PRAGMA ${name}`).get() ?? {};
    return Object.values(row)[0];
  };
  // One process at a time: two would give one address to two names.
  pragma("locking_mode = EXCLUSIVE");
  const mark = pragma("application_id");
  const isEmpty = pragma("page_count") === 0;
  if (!isEmpty && mark !== APPLICATION_ID) throw new UnreadableError("it is of another program");
  if (!isEmpty && pragma("user_version") !== VERSION) {
    throw new UnreadableError("it is of another version");
  }
  const check = isEmpty ? "ok" : pragma("quick_check(1)");
  if (check !== "ok") throw new UnreadableError(String(check));
  pragma("journal_mode = WAL");
  // A power failure may take the last batches, never the file.
  pragma("synchronous = NORMAL");
  pragma(`application_id = ${APPLICATION_ID}`);
  pragma(`user_version = ${VERSION}`);
  database.exec(TABLES);
}

/** What is in the file cannot be used. */
class UnreadableError extends Error {}

function isUnreadable(error: unknown): boolean {
  if (error instanceof UnreadableError) return true;
  const code = (error as { errcode?: unknown } | undefined)?.errcode;
  // Extended codes have the plain one in the low byte.
  return typeof code === "number" &&
    [SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_NOTADB].includes(code & 0xff);
}

/** Gives a file another name, and what belongs to it. @returns The name. */
async function putAside(path: string): Promise<string> {
  for (let number = 1; number <= MOST_ASIDE; number++) {
    const aside = `${path}.unusable${number === 1 ? "" : `-${number}`}`;
    try {
      await (await openFile(aside, "wx", 0o600)).close();
    } catch (error) {
      if ((error as { code?: unknown }).code === "EEXIST") continue;
      throw error;
    }
    await rename(path, aside);
    for (const more of ["-wal", "-shm"]) await rename(path + more, aside + more).catch(() => {});
    return aside;
  }
  throw new UnreadableError(
    `${MOST_ASIDE} files were put aside before it, look at them and remove them`,
  );
}

const log = logger("proxy", "cache");
/** "FWpc", so that the file of another program is not taken for ours. */
const APPLICATION_ID = 0x4657_7063;
const VERSION = 1;
const TABLES = `
  CREATE TABLE IF NOT EXISTS state (
    cache_id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (cache_id, kind, name)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS fakeip (
    cache_id TEXT NOT NULL, block TEXT NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL,
    PRIMARY KEY (cache_id, block, place)) WITHOUT ROWID;
`;
const SQLITE_ERROR = 1;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
const FLUSH_MS = 200;
const RETRY_MS = 10_000;
/** Rows of a batch: some milliseconds in which nothing else runs. */
const MOST_AT_ONCE = 1000;
const MOST_ASIDE = 9;
