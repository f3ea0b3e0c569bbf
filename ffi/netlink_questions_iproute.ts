/**
 * Netlink requests as questions to the `ip` program: dumps and single gets of neighbours and links.
 *
 * @module
 */

/** One message of a request. */
export interface Question {
  readonly about: "neighbors" | "neighbor" | "links" | "link" | "nothing";
  /** Where its header is. */
  readonly at: number;
  readonly sequence: number;
  /** Address family; 0 for all. */
  readonly family: number;
  /** Proxy entries, which are in a list of their own. */
  readonly proxy: boolean;
  /** Index of the interface asked for; 0 for all. */
  readonly index: number;
  /** Index of the master asked for; 0 for all. */
  readonly master: number;
  /** Address asked for, as text. */
  readonly address: string;
  /** Name of the link asked for. */
  readonly name: string;
}

/** Reads the messages of a request. Ends at the first whose length is impossible, as the kernel does. */
export function readQuestions(view: DataView<ArrayBuffer>): readonly Question[] {
  const questions: Question[] = [];
  for (let at = 0; at + 16 <= view.byteLength;) {
    const length = view.getUint32(at, true);
    if (length < 16 || at + length > view.byteLength) break;
    if (view.getUint16(at + 6, true) & NLM_F_REQUEST) {
      questions.push(readQuestion(view, at, at + length));
    }
    at += (length + 3) & ~3;
  }
  return questions;
}

/** The words of the program for a question about neighbours. */
export function neighborWords(question: Question): readonly string[] {
  const { family, index, master, address, proxy } = question;
  const device = index === 0 ? [] : ["dev", `if${index}`];
  if (question.about === "neighbor") {
    return proxy
      ? ["neigh", "get", "proxy", address, ...device]
      : ["neigh", "get", address, ...device];
  }
  return [
    "-json",
    "-statistics",
    ...(family === AF_INET ? ["-4"] : family === AF_INET6 ? ["-6"] : []),
    ...["neigh", "show"],
    // Without naming all states those that were never resolved are left out.
    ...(proxy ? ["proxy"] : ["nud", "all"]),
    ...device,
    ...(master === 0 ? [] : ["master", `if${master}`]),
  ];
}

/** The words of the program that list all links. It finds no link by its index. */
export const LINK_WORDS: readonly string[] = ["-json", "-details", "link", "show"];

function readQuestion(view: DataView<ArrayBuffer>, at: number, end: number): Question {
  const type = view.getUint16(at + 4, true);
  const dump = (view.getUint16(at + 6, true) & NLM_F_DUMP) === NLM_F_DUMP;
  const links = type === RTM_GETLINK;
  const body = at + 16, attributes = body + (links ? 16 : 12);
  const whole = attributes <= end;
  let index = whole ? view.getInt32(body + 4, true) : 0;
  let master = 0, address = "", name = "";
  for (let a = attributes; a + 4 <= end;) {
    const length = view.getUint16(a, true);
    if (length < 4 || a + length > end) break;
    const kind = view.getUint16(a + 2, true) & NLA_TYPE_MASK, value = a + 4;
    if (!links && kind === NDA_IFINDEX && length >= 8) index = view.getInt32(value, true);
    else if (!links && kind === NDA_MASTER && length >= 8) master = view.getInt32(value, true);
    else if (!links && kind === NDA_DST) address = addressText(view, value, a + length);
    else if (links && kind === IFLA_MASTER && length >= 8) master = view.getInt32(value, true);
    else if (links && kind === IFLA_IFNAME) name = nameText(view, value, a + length);
    a += (length + 3) & ~3;
  }
  const about = !whole
    ? "nothing"
    : links
    ? dump ? "links" : "link"
    : type !== RTM_GETNEIGH
    ? "nothing"
    : dump
    ? "neighbors"
    : address === "" || index === 0
    ? "nothing"
    : "neighbor";
  return {
    about,
    at,
    sequence: view.getUint32(at + 8, true),
    family: whole ? view.getUint8(body) : 0,
    proxy: !links && whole && (view.getUint8(body + 10) & NTF_PROXY) !== 0,
    index,
    master,
    address,
    name,
  };
}

function addressText(view: DataView, start: number, end: number): string {
  const groups: string[] = [];
  if (end - start === 4) {
    for (let i = start; i < end; i++) groups.push(String(view.getUint8(i)));
    return groups.join(".");
  }
  if (end - start !== 16) return "";
  for (let i = start; i < end; i += 2) groups.push(view.getUint16(i).toString(16));
  return groups.join(":");
}

function nameText(view: DataView<ArrayBuffer>, start: number, end: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + start, end - start);
  return new TextDecoder().decode(bytes).replace(/\0.*$/s, "");
}

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/neighbour.h>, <linux/if_link.h>
const NLM_F_REQUEST = 0x1;
const NLM_F_DUMP = 0x300;
const NLA_TYPE_MASK = 0x3fff;
const RTM_GETLINK = 18;
const RTM_GETNEIGH = 30;
const NDA_DST = 1;
const NDA_IFINDEX = 8;
const NDA_MASTER = 9;
const NTF_PROXY = 0x08;
const IFLA_IFNAME = 3;
const IFLA_MASTER = 10;
const AF_INET = 2;
const AF_INET6 = 10;
