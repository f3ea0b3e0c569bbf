/**
 * Broken configurations, each with everything that is told about it: path, line and column, what is wrong, and a hint.
 *
 * @module
 */

/** A configuration and its problems as `formatProblem()` writes them. */
export interface BrokenConfig {
  /** What is broken. */
  readonly name: string;
  /** The file. */
  readonly text: string;
  /** One line each, in the order of the file. */
  readonly problems: readonly string[];
}

/** The corpus. */
export const BROKEN: readonly BrokenConfig[] = [
  {
    name: "an unknown key beside a near one",
    text: `{
  "inbounds": [
    {
      "type": "mixed",
      "listen_prot": 1080
    }
  ]
}`,
    problems: [
      'inbounds[0].listen_prot (5:7): unknown field, did you mean "listen_port"?',
    ],
  },
  {
    name: "an unknown section",
    text: `{ "inbound": [] }`,
    problems: [
      'inbound (1:3): unknown field, did you mean "inbounds"?',
    ],
  },
  {
    name: "an unknown key that is near to nothing",
    text: `{ "log": { "colour": true } }`,
    problems: [
      'log.colour (1:12): unknown field, expected one of "disabled", "level", "output", "timestamp"',
    ],
  },
  {
    name: "a number as text",
    text: `{ "inbounds": [{ "type": "socks", "listen_port": "1080" }] }`,
    problems: [
      'inbounds[0].listen_port (1:50): is "1080", expected an integer, 0 to 65535',
    ],
  },
  {
    name: "a port out of range",
    text: `{ "inbounds": [{ "type": "http", "listen_port": 65536 }] }`,
    problems: [
      "inbounds[0].listen_port (1:49): is 65536, expected an integer, 0 to 65535",
    ],
  },
  {
    name: "a fraction for a port",
    text: `{ "inbounds": [{ "type": "http", "listen_port": 80.5 }] }`,
    problems: [
      "inbounds[0].listen_port (1:49): is 80.5, expected an integer, 0 to 65535",
    ],
  },
  {
    name: "a bare number for a duration",
    text: `{ "outbounds": [{ "type": "direct", "connect_timeout": 5 }] }`,
    problems: [
      'outbounds[0].connect_timeout (1:56): is 5, expected a duration like "300ms", "15s" or "1h30m"',
    ],
  },
  {
    name: "a duration without a unit",
    text: `{ "inbounds": [{ "type": "direct", "udp_timeout": "300" }] }`,
    problems: [
      'inbounds[0].udp_timeout (1:51): is "300", expected a duration like "300ms", "15s" or "1h30m"',
    ],
  },
  {
    name: "a name where an address is listened on",
    text: `{ "inbounds": [{ "type": "mixed", "listen": "localhost" }] }`,
    problems: [
      'inbounds[0].listen (1:45): is "localhost", expected an IP address',
    ],
  },
  {
    name: "no type",
    text: `{ "outbounds": [{ "tag": "a" }] }`,
    problems: [
      'outbounds[0] (1:17): missing outbound type, expected one of "direct", "block", "socks", "http", "shadowsocks", "selector", "urltest", "fallback", "loadbalance", "dns", "trojan", "vless", "vmess", "hysteria", "hysteria2", "tuic", …',
    ],
  },
  {
    name: "a misspelt type",
    text: `{ "outbounds": [{ "type": "shadowsock" }] }`,
    problems: [
      'outbounds[0].type (1:27): unknown outbound type "shadowsock", did you mean "shadowsocks"?',
    ],
  },
  {
    name: "an unsupported inbound",
    text: `{ "inbounds": [{ "type": "hysteria2", "listen_port": 443 }] }`,
    problems: [
      "inbounds[0].type (1:26): not supported by this build: Hysteria 2, remove it",
    ],
  },
  {
    name: "an unsupported outbound",
    text: `{ "outbounds": [{ "type": "vmess", "server": "a", "server_port": 1 }] }`,
    problems: [
      "outbounds[0].type (1:27): not supported by this build: VMess, remove it",
    ],
  },
  {
    name: "an unsupported field",
    text: `{ "inbounds": [{ "type": "mixed", "tls": { "enabled": true } }] }`,
    problems: [
      "inbounds[0].tls (1:42): not supported by this build: TLS at an inbound, remove it",
    ],
  },
  {
    name: "a field that was removed",
    text: `{ "inbounds": [{ "type": "mixed", "sniff": true }] }`,
    problems: [
      'inbounds[0].sniff (1:44): not supported by this build: sniffing at an inbound, use a route rule with "action": "sniff"',
    ],
  },
  {
    name: "an unsupported section",
    text: `{ "ntp": { "enabled": true, "server": "time.example" } }`,
    problems: [
      "ntp (1:10): not supported by this build: the NTP client, remove it",
    ],
  },
  {
    name: "a missing server",
    text: `{ "outbounds": [{ "type": "socks", "server_port": 1080 }] }`,
    problems: [
      'outbounds[0] (1:17): missing field "server", it has no default',
    ],
  },
  {
    name: "a server with a path",
    text: `{ "outbounds": [{ "type": "http", "server": "a/b", "server_port": 1 }] }`,
    problems: [
      'outbounds[0].server (1:45): is "a/b", expected a name or an address',
    ],
  },
  {
    name: "a word for a truth value",
    text: `{ "outbounds": [{ "type": "direct", "tcp_fast_open": "yes" }] }`,
    problems: [
      'outbounds[0].tcp_fast_open (1:54): is "yes", expected true or false',
    ],
  },
  {
    name: "null for a value",
    text: `{ "log": { "level": null } }`,
    problems: [
      'log.level (1:21): is null, expected one of "trace", "debug", "info", "warn", "error", "fatal", "panic"',
    ],
  },
  {
    name: "a level that does not exist",
    text: `{ "log": { "level": "warning" } }`,
    problems: [
      'log.level (1:21): is "warning", expected one of "trace", "debug", "info", "warn", "error", "fatal", "panic"',
    ],
  },
  {
    name: "a list for an object",
    text: `{ "route": [] }`,
    problems: [
      "route (1:12): is an empty list, expected an object",
    ],
  },
  {
    name: "a secret that is a number",
    text:
      `{ "inbounds": [{ "type": "socks", "users": [{ "username": "a", "password": 123456 }] }] }`,
    problems: [
      "inbounds[0].users[0].password (1:76): is a number, expected a secret as text",
    ],
  },
  {
    name: "a user without a name",
    text: `{ "inbounds": [{ "type": "socks", "users": { "password": "x" } }] }`,
    problems: [
      'inbounds[0].users (1:44): missing field "username", it has no default',
    ],
  },
  {
    name: "tags that are taken",
    text: `{
  "inbounds": [{ "type": "mixed", "tag": "a" }, { "type": "http", "tag": "a" }],
  "outbounds": [{ "type": "direct", "tag": "1" }, { "type": "block" }]
}`,
    problems: [
      'inbounds[1].tag (2:74): the tag "a" is taken, inbound number 1 has it',
      'outbounds[1].tag (3:51): the tag "1" is taken, outbound number 1 has it',
    ],
  },
  {
    name: "a rule to an unknown outbound",
    text: `{
  "outbounds": [{ "type": "direct", "tag": "direct" }],
  "route": { "rules": [{ "port": 1, "outbound": "dircet" }] }
}`,
    problems: [
      'route.rules[0].outbound (3:49): no outbound has the tag "dircet", did you mean "direct"?',
    ],
  },
  {
    name: "a final outbound that is not there",
    text: `{ "route": { "final": "proxy" } }`,
    problems: [
      'route.final (1:23): no outbound has the tag "proxy", there are "direct"',
    ],
  },
  {
    name: "a detour to nowhere",
    text: `{ "outbounds": [{ "type": "direct", "tag": "a", "detour": "b" }] }`,
    problems: [
      'outbounds[0].detour (1:59): no outbound has the tag "b", there are "a"',
    ],
  },
  {
    name: "a detour to itself",
    text: `{ "outbounds": [{ "type": "direct", "tag": "a", "detour": "a" }] }`,
    problems: [
      "outbounds[0].detour (1:59): goes round in a circle: a → a, one of them has to lead elsewhere",
    ],
  },
  {
    name: "a circle through a group",
    text: `{
  "outbounds": [
    { "type": "selector", "tag": "group", "outbounds": ["hop"] },
    { "type": "socks", "tag": "hop", "server": "s", "server_port": 1, "detour": "group" }
  ]
}`,
    problems: [
      "outbounds[1].detour (4:81): goes round in a circle: group → hop → group, one of them has to lead elsewhere",
    ],
  },
  {
    name: "an inbound that hands on, and an interface to be found",
    text: `{
  "inbounds": [{ "type": "direct", "tag": "a", "detour": "b" }],
  "route": { "auto_detect_interface": true }
}`,
    problems: [
      "inbounds[0].detour (2:58): not supported by this build: handing connections to another inbound, remove it",
      'route.auto_detect_interface (3:39): not supported by this build: finding the interface, use "default_interface"',
    ],
  },
  {
    name: "a circle of DNS servers",
    text: `{
  "dns": {
    "servers": [
      { "type": "udp", "tag": "x", "server": "x.test", "domain_resolver": "y" },
      { "type": "udp", "tag": "y", "server": "y.test", "domain_resolver": { "server": "x" } }
    ]
  }
}`,
    problems: [
      "dns.servers[1].domain_resolver (5:75): goes round in a circle: x → y → x, one of them has to lead elsewhere",
    ],
  },
  {
    name: "an empty group",
    text: `{ "outbounds": [{ "type": "urltest", "tag": "a", "outbounds": [] }] }`,
    problems: [
      "outbounds[0].outbounds (1:63): the group is empty, name one outbound or more",
    ],
  },
  {
    name: "a group with a stranger as its default",
    text: `{
  "outbounds": [
    { "type": "direct", "tag": "a" },
    { "type": "selector", "tag": "s", "outbounds": ["a"], "default": "b" }
  ]
}`,
    problems: [
      'outbounds[1].default (4:70): "b" is not a member, members are "a"',
    ],
  },
  {
    name: "a group with a member twice",
    text: `{
  "outbounds": [
    { "type": "direct", "tag": "a" },
    { "type": "fallback", "tag": "s", "outbounds": ["a", "a"] }
  ]
}`,
    problems: [
      'outbounds[1].outbounds[1] (4:58): "a" is there twice, remove one',
    ],
  },
  {
    name: "a group that measures less often than it pauses",
    text: `{
  "outbounds": [
    { "type": "direct", "tag": "a" },
    { "type": "urltest", "tag": "s", "outbounds": "a", "interval": "1h", "url": "ftp://a" }
  ]
}`,
    problems: [
      "outbounds[1].interval (4:68): 1h is longer than idle_timeout, expected 30m or less",
      'outbounds[1].url (4:81): is "ftp://a", expected http:// or https:// and a host',
    ],
  },
  {
    name: "a strategy that does not exist",
    text: `{
  "outbounds": [
    { "type": "direct", "tag": "a" },
    { "type": "loadbalance", "outbounds": "a", "strategy": "random" }
  ]
}`,
    problems: [
      'outbounds[1].strategy (4:60): is "random", expected one of "round-robin", "least-connections", "source-hash", "consistent-hash", "least-latency"',
    ],
  },
  {
    name: "a key of the wrong length",
    text: `{
  "outbounds": [{
    "type": "shadowsocks",
    "server": "s",
    "server_port": 1,
    "method": "2022-blake3-aes-256-gcm",
    "password": "AAECAwQFBgcICQoLDA0ODw=="
  }]
}`,
    problems: [
      'outbounds[0].password (7:17): is a key of 16 bytes, expected 32 bytes in base64, as "generate ss-password" makes them',
    ],
  },
  {
    name: "a key that is not base64",
    text:
      `{ "inbounds": [{ "type": "shadowsocks", "method": "2022-blake3-aes-128-gcm", "password": "secret" }] }`,
    problems: [
      'inbounds[0].password (1:90): is not base64, expected 16 bytes in base64, as "generate ss-password" makes them',
    ],
  },
  {
    name: "users with a method for one",
    text: `{
  "inbounds": [{
    "type": "shadowsocks",
    "method": "2022-blake3-chacha20-poly1305",
    "password": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "users": [{ "name": "a", "password": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" }]
  }]
}`,
    problems: [
      'inbounds[0].users (6:14): not possible with "2022-blake3-chacha20-poly1305", several users need a method that begins with "2022-blake3-aes-"',
    ],
  },
  {
    name: "users and destinations",
    text: `{
  "inbounds": [{
    "type": "shadowsocks",
    "method": "aes-128-gcm",
    "users": [{ "name": "a", "password": "x" }],
    "destinations": [{ "name": "b", "server": "s", "server_port": 1, "password": "y" }]
  }]
}`,
    problems: [
      "inbounds[0].destinations (6:21): there are users as well, a server has users or destinations, not both",
      'inbounds[0].destinations (6:21): not possible with "aes-128-gcm", relaying needs a method that begins with "2022-blake3-aes-"',
    ],
  },
  {
    name: "a Shadowsocks outbound without a password",
    text: `{
  "outbounds": [{ "type": "shadowsocks", "server": "s", "server_port": 1, "method": "aes-128-gcm" }]
}`,
    problems: [
      'outbounds[0] (2:17): has no password, add "password"',
    ],
  },
  {
    name: "a stream cipher",
    text: `{
  "outbounds": [{ "type": "shadowsocks", "server": "s", "server_port": 1, "method": "rc4-md5", "password": "x" }]
}`,
    problems: [
      'outbounds[0].method (2:85): is "rc4-md5", expected one of "2022-blake3-aes-128-gcm", "2022-blake3-aes-256-gcm", "2022-blake3-chacha20-poly1305", "none", "aes-128-gcm", "aes-192-gcm", "aes-256-gcm", "chacha20-ietf-poly1305", "xchacha20-ietf-poly1305"',
    ],
  },
  {
    name: "a plugin",
    text: `{
  "outbounds": [{
    "type": "shadowsocks", "server": "s", "server_port": 1,
    "method": "aes-128-gcm", "password": "x",
    "plugin": "obfs-local"
  }]
}`,
    problems: [
      "outbounds[0].plugin (5:15): not supported by this build: SIP003 plugins, remove it",
    ],
  },
  {
    name: "two inbounds on one port",
    text: `{
  "inbounds": [
    { "type": "http", "listen": "127.0.0.1", "listen_port": 1080 },
    { "type": "mixed", "tag": "a", "listen": "::", "listen_port": 1080 },
    { "type": "socks", "tag": "b", "listen": "::", "listen_port": 1080 }
  ]
}`,
    problems: [
      "inbounds[2].listen_port (5:67): the tcp port 1080 is taken, inbound number 2 listens on it",
    ],
  },
  {
    name: "a password for SOCKS 4",
    text: `{
  "outbounds": [{ "type": "socks", "server": "s", "server_port": 1, "version": "4", "username": "u", "password": "x" }]
}`,
    problems: [
      'outbounds[0].password (2:114): SOCKS 4 has no passwords, remove it, or use "version": "5"',
    ],
  },
  {
    name: "a password without a user",
    text: `{ "outbounds": [{ "type": "http", "server": "s", "server_port": 1, "password": "x" }] }`,
    problems: [
      'outbounds[0].password (1:80): there is no user name, add "username"',
    ],
  },
  {
    name: "a broken block of addresses",
    text:
      `{ "route": { "rules": [{ "ip_cidr": ["10.0.0.0/8", "10.0.0.0/33"], "outbound": "direct" }] } }`,
    problems: [
      'route.rules[0].ip_cidr[1] (1:52): is "10.0.0.0/33", expected an address or a block like "10.0.0.0/8"',
    ],
  },
  {
    name: "a broken regular expression",
    text: `{ "route": { "rules": [{ "domain_regex": ["^ok$", "(a"], "outbound": "direct" }] } }`,
    problems: [
      'route.rules[0].domain_regex[1] (1:51): is "(a", expected a regular expression in RE2 syntax: a bracket is not closed, at character 1',
    ],
  },
  {
    name: "look-around",
    text: `{ "route": { "rules": [{ "domain_regex": "^(?!www)", "outbound": "direct" }] } }`,
    problems: [
      'route.rules[0].domain_regex (1:42): is "^(?!www)", expected a regular expression in RE2 syntax: look-around is not part of RE2, at character 2',
    ],
  },
  {
    name: "what is kept where it was before, and what this build does not keep",
    text: `{
  "experimental": {
    "cache_file": { "enabled": true, "store_selected": true, "store_rdrc": true },
    "clash_api": { "external_controller": "127.0.0.1:9090", "store_mode": true }
  }
}`,
    problems: [
      "experimental.cache_file.store_selected (3:56): not supported by this build: this field, choices are always kept",
      "experimental.cache_file.store_rdrc (3:76): not supported by this build: caching of rejected answers, remove it",
      'experimental.clash_api.store_mode (4:75): not supported by this build: this field, use "cache_file"',
    ],
  },
  {
    name: "two users of Shadowsocks 2022 with one key",
    text: `{
  "inbounds": [{
    "type": "shadowsocks", "method": "2022-blake3-aes-128-gcm", "password": "AQEBAQEBAQEBAQEBAQEBAQ==",
    "users": [
      { "name": "a", "password": "AgICAgICAgICAgICAgICAg==" },
      { "name": "b", "password": "AgICAgICAgICAgICAgICAg==" }
    ]
  }]
}`,
    problems: [
      "inbounds[0].users[1].password (6:34): is the key of number 1 as well, each needs one of its own",
    ],
  },
  {
    name: "a range of ports the wrong way round",
    text: `{ "route": { "rules": [{ "port_range": "20:10", "outbound": "direct" }] } }`,
    problems: [
      'route.rules[0].port_range (1:40): is "20:10", expected a range of ports like "1000:2000", ":3000" or "4000:"',
    ],
  },
  {
    name: "a route without an outbound",
    text: `{ "route": { "rules": [{ "port": 1 }] } }`,
    problems: [
      'route.rules[0] (1:24): missing field "outbound", it has no default',
    ],
  },
  {
    name: "an unknown action",
    text: `{ "route": { "rules": [{ "port": 1, "action": "rejct" }] } }`,
    problems: [
      'route.rules[0].action (1:47): unknown rule action "rejct", did you mean "reject"?',
    ],
  },
  {
    name: "a field of another action",
    text: `{ "route": { "rules": [{ "action": "sniff", "outbound": "direct" }] } }`,
    problems: [
      'route.rules[0].outbound (1:45): unknown field, expected one of "type", "query_type", "network", "domain", "domain_suffix", "domain_keyword", "domain_regex", "ip_cidr", "source_ip_cidr", "source_port", "source_port_range", "port", "port_range", "invert", "inbound", "ip_version", …',
    ],
  },
  {
    name: "a rejection that contradicts itself",
    text: `{ "route": { "rules": [{ "action": "reject", "method": "drop", "no_drop": true }] } }`,
    problems: [
      'route.rules[0].no_drop (1:75): contradicts "method": "drop", remove one of them',
    ],
  },
  {
    name: "options without one",
    text: `{ "route": { "rules": [{ "port": 53, "action": "route-options" }] } }`,
    problems: [
      'route.rules[0] (1:24): changes nothing, add "override_address" or "override_port" or "udp_disable_domain_unmapping" or "udp_connect" or "udp_timeout"',
    ],
  },
  {
    name: "a rule about processes",
    text: `{ "route": { "rules": [{ "process_name": "curl", "outbound": "direct" }] } }`,
    problems: [
      "route.rules[0].process_name (1:42): not supported by this build: rules about processes and users, remove it",
    ],
  },
  {
    name: "a geo database",
    text: `{ "route": { "rules": [{ "geosite": "cn", "outbound": "direct" }] } }`,
    problems: [
      'route.rules[0].geosite (1:37): not supported by this build: geo databases, use "rule_set"',
    ],
  },
  {
    name: "a logical rule without a mode",
    text:
      `{ "route": { "rules": [{ "type": "logical", "rules": [{ "port": 1 }], "outbound": "direct" }] } }`,
    problems: [
      'route.rules[0] (1:24): missing field "mode", it has no default',
    ],
  },
  {
    name: "a mistake deep in a logical rule",
    text: `{
  "route": {
    "rules": [{
      "type": "logical",
      "mode": "and",
      "rules": [{ "port": 1 }, { "type": "logical", "mode": "or", "rules": [{ "prot": 2 }] }],
      "outbound": "direct"
    }]
  }
}`,
    problems: [
      'route.rules[0].rules[1].rules[0].prot (6:79): unknown field, did you mean "port"?',
    ],
  },
  {
    name: "a logical rule of nothing",
    text:
      `{ "route": { "rules": [{ "type": "logical", "mode": "or", "rules": [], "outbound": "direct" }] } }`,
    problems: [
      "route.rules[0].rules (1:68): there is nothing to join, name one condition or more",
    ],
  },
  {
    name: "an unknown rule set",
    text: `{
  "route": {
    "rule_set": [{ "tag": "ads", "rules": [{ "domain": "a" }] }],
    "rules": [{ "rule_set": ["ads", "adds"], "outbound": "direct" }]
  }
}`,
    problems: [
      'route.rules[0].rule_set[1] (4:37): no rule set has the tag "adds", did you mean "ads"?',
    ],
  },
  {
    name: "a rule set that asks nothing",
    text: `{ "route": { "rule_set": [{ "tag": "s", "rules": [{ "invert": true }] }] } }`,
    problems: [
      "route.rule_set[0].rules[0] (1:51): asks nothing, add a condition, or remove the rule",
    ],
  },
  {
    name: "a binary rule set",
    text:
      `{ "route": { "rule_set": [{ "type": "local", "tag": "s", "path": "a.srs" }, { "type": "local", "tag": "t", "format": "binary", "path": "b" }] } }`,
    problems: [
      'route.rule_set[0].path (1:66): not supported by this build: binary rule sets, use the source format, or say "format": "source"',
      "route.rule_set[1].format (1:118): not supported by this build: binary rule sets, remove it",
    ],
  },
  {
    name: "a remote rule set",
    text:
      `{ "route": { "rule_set": [{ "type": "remote", "tag": "s", "url": "https://example.com/a.srs" }] } }`,
    problems: [
      "route.rule_set[0].type (1:37): not supported by this build: remote rule sets, remove it",
    ],
  },
  {
    name: "a DNS server of the old kind",
    text: `{ "dns": { "servers": [{ "tag": "a", "address": "tls://1.1.1.1" }] } }`,
    problems: [
      'dns.servers[0] (1:24): not supported by this build: the field "address", use "type" and "server"',
    ],
  },
  {
    name: "a DNS server over QUIC",
    text: `{ "dns": { "servers": [{ "type": "quic", "server": "1.1.1.1" }] } }`,
    problems: [
      "dns.servers[0].type (1:34): not supported by this build: DNS over QUIC, remove it",
    ],
  },
  {
    name: "a DNS rule to an unknown server",
    text:
      `{ "dns": { "servers": [{ "type": "local", "tag": "sys" }], "rules": [{ "query_type": "A", "server": "sis" }] } }`,
    problems: [
      'dns.rules[0].server (1:101): no DNS server has the tag "sis", did you mean "sys"?',
    ],
  },
  {
    name: "a record type that does not exist",
    text: `{ "dns": { "rules": [{ "query_type": ["A", "AAAAA"], "server": "local" }] } }`,
    problems: [
      'dns.rules[0].query_type[1] (1:44): is "AAAAA", expected a number, 0 to 65535, or a name like A, NS, CNAME, SOA, PTR',
    ],
  },
  {
    name: "a broken record",
    text:
      `{ "dns": { "rules": [{ "domain": "a", "action": "predefined", "answer": "a 1.2.3.4" }] } }`,
    problems: [
      'dns.rules[0].answer (1:73): is "a 1.2.3.4", expected a record like "example.com. IN A 192.0.2.1": a name, a class, a type and data are needed',
    ],
  },
  {
    name: "invented addresses of the wrong family",
    text:
      `{ "dns": { "servers": [{ "type": "fakeip", "inet4_range": "fc00::/18" }, { "type": "fakeip" }] } }`,
    problems: [
      'dns.servers[0].inet4_range (1:59): is "fc00::/18", expected a block of IPv4 addresses',
      'dns.servers[1] (1:74): has no addresses to give, add "inet4_range" or "inet6_range"',
    ],
  },
  {
    name: "a controller without a port",
    text: `{ "experimental": { "clash_api": { "external_controller": "127.0.0.1" } } }`,
    problems: [
      'experimental.clash_api.external_controller (1:59): is "127.0.0.1", expected host:port, as in "127.0.0.1:9090"',
    ],
  },
  {
    name: "a mark out of range",
    text: `{ "route": { "default_mark": "0x1ffffffff" } }`,
    problems: [
      'route.default_mark (1:30): is "0x1ffffffff", expected a mark, 0 to 4294967295, or text like "0x1f"',
    ],
  },
  {
    name: "a key that is there twice",
    text: `{
  "log": { "level": "info" },
  "log": { "level": "debug" }
}`,
    problems: [
      "log (3:3): is there twice, first at 2:3",
    ],
  },
  {
    name: "a missing comma",
    text: `{
  "log": { "level": "info" }
  "route": {}
}`,
    problems: [
      'configuration (3:3): no comma, expected "," between values',
    ],
  },
  {
    name: "a file that breaks off",
    text: `{ "inbounds": [{ "type": "mixed"`,
    problems: [
      'configuration (1:33): an object is not closed, expected "}"',
      'configuration (1:33): a list is not closed, expected "]"',
      'configuration (1:33): an object is not closed, expected "}"',
    ],
  },
  {
    name: "single quotes",
    text: `{ 'log': {} }`,
    problems: [
      "configuration (1:3): unknown word, expected true, false, null, a number or text in double quotes",
      "configuration (1:8): no key, expected a key in double quotes",
      "configuration (1:11): no value, expected a value",
      "configuration (1:13): more than one value, expected the end of the file",
    ],
  },
  {
    name: "an empty file",
    text: ``,
    problems: [
      "configuration (1:1): no value, expected a value",
    ],
  },
  {
    name: "a list for a configuration",
    text: `[]`,
    problems: [
      "configuration (1:1): is an empty list, expected an object",
    ],
  },
  {
    name: "comments around a mistake",
    text: `// a comment
{
  /* another
     one */ "log": { "levle": "info", }, // and one
}`,
    problems: [
      'log.levle (4:22): unknown field, did you mean "level"?',
    ],
  },
  {
    name: "mistakes everywhere at once",
    text: `{
  "log": { "level": "loud" },
  "inbounds": [{ "type": "mixed", "listen_port": -1, "tag": "x" }, { "type": "mixed", "tag": "x" }],
  "outbounds": [{ "type": "direct", "detuor": "a" }],
  "route": { "final": "nowhere" }
}`,
    problems: [
      'log.level (2:21): is "loud", expected one of "trace", "debug", "info", "warn", "error", "fatal", "panic"',
      "inbounds[0].listen_port (3:50): is -1, expected an integer, 0 to 65535",
      'inbounds[1].tag (3:94): the tag "x" is taken, inbound number 1 has it',
      'outbounds[0].detuor (4:37): unknown field, did you mean "detour"?',
      'route.final (5:23): no outbound has the tag "nowhere", there are "0"',
    ],
  },
];
