/**
 * C structs as constants: declared once, turned into offsets when the module loads, free to use afterwards.
 *
 * @module
 */

/** A field's type; `ptr` is 8 bytes (64-bit systems only). A number is an array of that many bytes. */
export type FieldType =
  | "u8"
  | "i8"
  | "u16"
  | "i16"
  | "u32"
  | "i32"
  | "u64"
  | "i64"
  | "ptr"
  | number;

/** Offsets of the fields by name, and the size of the whole, in bytes. */
export type Layout<Field extends string> = Readonly<Record<Field | "size", number>>;

/**
 * Lays fields out as a C compiler does on a 64-bit little-endian system: each at the next multiple of its own size, the
 * whole rounded up to the largest.
 *
 * @param fields Name and type, in the order of the declaration. A member that is a struct is written as its fields.
 * @returns Frozen offsets and `size`.
 *
 * @example
 * ```ts
 * const POLLFD: Layout<"fd" | "events" | "revents"> = layout(
 *   ["fd", "i32"],
 *   ["events", "i16"],
 *   ["revents", "i16"],
 * ); // { fd: 0, events: 4, revents: 6, size: 8 }
 * ```
 */
export function layout<const Field extends string>(
  ...fields: readonly (readonly [Field, FieldType])[]
): Layout<Field> {
  return lay(fields, 8);
}

/** The same for `__attribute__((packed))`: no gaps. */
export function packedLayout<const Field extends string>(
  ...fields: readonly (readonly [Field, FieldType])[]
): Layout<Field> {
  return lay(fields, 1);
}

function lay<Field extends string>(
  fields: readonly (readonly [Field, FieldType])[],
  largest: number,
): Layout<Field> {
  const offsets: Record<string, number> = {};
  let end = 0, widest = 1;
  for (const [name, type] of fields) {
    if (name === "size" || name in offsets) {
      throw new TypeError(`Cannot lay out a struct: field "${name}" is reserved or repeated`);
    }
    const bytes = typeof type === "number" ? type : BYTES[type];
    const alignment = typeof type === "number" ? 1 : Math.min(bytes, largest);
    if (alignment > widest) widest = alignment;
    end = Math.ceil(end / alignment) * alignment;
    offsets[name] = end;
    end += bytes;
  }
  offsets.size = Math.ceil(end / widest) * widest;
  // The loop has set every name that the type lists.
  return Object.freeze(offsets) as Layout<Field>;
}

const BYTES: Readonly<Record<Exclude<FieldType, number>, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  i64: 8,
  ptr: 8,
};
