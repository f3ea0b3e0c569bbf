/**
 * Zones of link-local addresses: the name of an interface, or its index.
 *
 * @module
 */
import { networkInterfaces } from "node:os";

/** Interface index of a zone, which is a name or the index itself; 0 when it is unknown. */
export function scopeOf(zone: string): number {
  if (/^\d+$/.test(zone)) return Number(zone);
  // Only link-local addresses carry it; the others of an interface say 0.
  for (const { scopeid = 0 } of interfacesOf(zone)) if (scopeid > 0) return scopeid;
  return 0;
}

/** Name of an interface index, which is what the runtimes look up; the index itself when it is unknown. */
export function zoneOf(scope: number): string {
  for (const name of Object.keys(interfaces())) {
    if (interfacesOf(name).some((one) => one.scopeid === scope)) return name;
  }
  return String(scope);
}

type Interfaces = ReturnType<typeof networkInterfaces>;

function interfacesOf(
  name: string,
): { readonly family: string; readonly scopeid?: number | undefined }[] {
  return interfaces()[name] ?? [];
}

function interfaces(): Interfaces {
  try {
    return networkInterfaces();
  } catch {
    // Not permitted: link-local addresses then work only where the runtime takes an index.
    return {};
  }
}
