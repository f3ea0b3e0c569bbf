/**
 * Numbers of rtnetlink under the names of the kernel's headers: `linux/netlink.h`, `linux/rtnetlink.h`,
 * `linux/neighbour.h`, `linux/if_link.h`.
 *
 * @module
 */

/** Bytes of `struct nlmsghdr`. */
export const NLMSG_HDRLEN = 16;
/** Bytes of `struct ndmsg`. */
export const NDMSG_BYTES = 12;
/** Bytes of `struct ifinfomsg`. */
export const IFINFOMSG_BYTES = 16;

/** Nothing. */
export const NLMSG_NOOP = 1;
/** An error, or an acknowledgement when its code is 0. */
export const NLMSG_ERROR = 2;
/** End of a reply of several parts; carries the dump's error, if any. */
export const NLMSG_DONE = 3;
/** Messages were lost. */
export const NLMSG_OVERRUN = 4;
/** A link is there, or changed. */
export const RTM_NEWLINK = 16;
/** A link is gone. With family `AF_BRIDGE` only a bridge port is. */
export const RTM_DELLINK = 17;
/** Asks for links. */
export const RTM_GETLINK = 18;
/** A neighbor is there, or changed. */
export const RTM_NEWNEIGH = 28;
/** A neighbor is gone. */
export const RTM_DELNEIGH = 29;
/** Asks for neighbors. */
export const RTM_GETNEIGH = 30;

/** It is a request. */
export const NLM_F_REQUEST = 0x1;
/** Part of a reply that ends with `NLMSG_DONE`. */
export const NLM_F_MULTI = 0x2;
/** Answer even when all went well. */
export const NLM_F_ACK = 0x4;
/** The table changed under the dump. Never set for neighbors. */
export const NLM_F_DUMP_INTR = 0x10;
/** The dump was filtered as asked. */
export const NLM_F_DUMP_FILTERED = 0x20;
/** Asks for the whole table. */
export const NLM_F_DUMP = 0x300;
/** Replace what exists. */
export const NLM_F_REPLACE = 0x100;
/** Leave what exists, and say `EEXIST`. */
export const NLM_F_EXCL = 0x200;
/** Create what does not exist. */
export const NLM_F_CREATE = 0x400;
/** The request was echoed without its payload. */
export const NLM_F_CAPPED = 0x100;
/** Attributes with the kernel's words follow. */
export const NLM_F_ACK_TLVS = 0x200;

/** Any family. */
export const AF_UNSPEC = 0;
/** IPv4. */
export const AF_INET = 2;
/** Forwarding entries and ports of bridges. */
export const AF_BRIDGE = 7;
/** IPv6. */
export const AF_INET6 = 10;

/** No state. */
export const NUD_NONE = 0;
/** Being resolved. */
export const NUD_INCOMPLETE = 0x01;
/** Confirmed. */
export const NUD_REACHABLE = 0x02;
/** Known, not confirmed lately. */
export const NUD_STALE = 0x04;
/** In use, about to be probed. */
export const NUD_DELAY = 0x08;
/** Being probed. */
export const NUD_PROBE = 0x10;
/** Could not be resolved. */
export const NUD_FAILED = 0x20;
/** Needs no resolution. */
export const NUD_NOARP = 0x40;
/** Set by somebody, never expires. */
export const NUD_PERMANENT = 0x80;

/** Learned by a user of the table, not by the kernel. */
export const NTF_EXT_LEARNED = 0x10;
/** An entry of the proxy table. */
export const NTF_PROXY = 0x08;
/** The neighbor is a router. */
export const NTF_ROUTER = 0x80;

/** Network address. */
export const NDA_DST = 1;
/** Link-layer address; absent while unresolved. */
export const NDA_LLADDR = 2;
/** Ages in 1/100 s. */
export const NDA_CACHEINFO = 3;
/** Probes sent. */
export const NDA_PROBES = 4;
/** VLAN identifier. */
export const NDA_VLAN = 5;
/** Interface index; a filter in dump requests. */
export const NDA_IFINDEX = 8;
/** Index of the interface's master; a filter in dump requests. */
export const NDA_MASTER = 9;
/** Originator, `RTPROT_…`. */
export const NDA_PROTOCOL = 12;
/** Flags that no longer fit `ndm_flags`. */
export const NDA_FLAGS_EXT = 15;

/** Link-layer address of a link. */
export const IFLA_ADDRESS = 1;
/** Name of a link, zero-terminated. */
export const IFLA_IFNAME = 3;
/** Index of the master: a bridge, a VRF, a bond. */
export const IFLA_MASTER = 10;
/** Operational state, RFC 2863. */
export const IFLA_OPERSTATE = 16;
/** Nested: what kind of link it is. */
export const IFLA_LINKINFO = 18;
/** In requests: which parts to leave out. */
export const IFLA_EXT_MASK = 29;
/** 1 with a carrier, 0 without. */
export const IFLA_CARRIER = 33;
/** Inside `IFLA_LINKINFO`: the kind's name. */
export const IFLA_INFO_KIND = 1;
/** Value of `IFLA_EXT_MASK` that leaves statistics out. */
export const RTEXT_FILTER_SKIP_STATS = 8;

/** Extended acknowledgement: a sentence, zero-terminated. */
export const NLMSGERR_ATTR_MSG = 1;
/** Extended acknowledgement: offset of the offending attribute in the request. */
export const NLMSGERR_ATTR_OFFS = 2;

/** Takes nesting and byte-order bits off an attribute's type. */
export const NLA_TYPE_MASK = 0x3fff;

/** Multicast group of link changes. */
export const RTNLGRP_LINK = 1;
/** Multicast group of neighbor changes. */
export const RTNLGRP_NEIGH = 3;

/** No such entry. */
export const ENOENT = 2;
/** Busy: another dump of this socket is not finished. */
export const EBUSY = 16;
/** It exists. */
export const EEXIST = 17;
/** No such device. */
export const ENODEV = 19;
/** No such device or address. */
export const ENXIO = 6;
