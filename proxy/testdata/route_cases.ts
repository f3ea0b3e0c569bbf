/**
 * Routing cases: a condition as it stands in a file, and requests that it holds (`+`) or does not hold (`-`) for.
 * Requests are `network host port`, then `key=value` for the rest.
 *
 * @module
 */

/** A condition with its requests. */
export interface RouteCases {
  /** In the file's schema, without an action. */
  readonly rule: Readonly<Record<string, unknown>>;
  /** One request a line. */
  readonly requests: string;
}

/** Rule sets that the cases name. */
export const CASE_RULE_SETS: readonly Readonly<Record<string, unknown>>[] = [
  { tag: "names", rules: [{ domain_suffix: "set.example" }] },
  { tag: "blocks", rules: [{ ip_cidr: ["203.0.113.0/24", "2001:db8:5::/48"] }] },
  { tag: "web", rules: [{ port: [80, 443] }] },
  { tag: "strict", rules: [{ domain: "strict.example", port: 8443 }] },
  { tag: "udp", rules: [{ network: "udp", domain: "udp.example" }] },
  { tag: "not", rules: [{ domain_suffix: "not.example", invert: true }] },
  {
    tag: "both",
    rules: [{
      type: "logical",
      mode: "and",
      rules: [{ domain_suffix: "both.example" }, { port: 1 }],
    }],
  },
  { tag: "several", rules: [{ domain: "one.example" }, { domain: "two.example" }] },
];

/** The cases. */
export const ROUTE_CASES: readonly RouteCases[] = [
  {
    rule: { domain: ["Example.com", "b.test."] },
    requests: `
      + tcp example.com 443
      + tcp EXAMPLE.com 443
      + tcp example.com. 443
      + udp b.test 53
      - tcp www.example.com 443
      - tcp example.org 443
      - tcp xexample.com 443
      - tcp com 443
      - tcp 192.0.2.1 443
      + tcp 192.0.2.1 443 sniff=example.com
      - tcp example.com 443 sniff=other.test`,
  },
  {
    rule: { domain_suffix: "example.com" },
    requests: `
      + tcp example.com 443
      + tcp www.example.com 443
      + tcp a.b.c.d.example.com 443
      + tcp WWW.Example.COM 443
      + tcp www.example.com. 443
      - tcp notexample.com 443
      - tcp example.com.evil.test 443
      - tcp xample.com 443
      - tcp com 443
      - tcp 2001:db8::1 443`,
  },
  {
    rule: { domain_suffix: ".example.com" },
    requests: `
      - tcp example.com 443
      + tcp www.example.com 443
      + tcp a.www.example.com 443
      - tcp wwwexample.com 443
      - tcp .com 443`,
  },
  {
    rule: { domain_suffix: ["com", ".co.uk"] },
    requests: `
      + tcp com 1
      + tcp a.com 1
      + tcp a.b.com 1
      - tcp co.uk 1
      + tcp x.co.uk 1
      - tcp uk 1
      - tcp a.community 1`,
  },
  {
    rule: { domain_suffix: "bücher.example" },
    requests: `
      + tcp xn--bcher-kva.example 443
      + tcp www.xn--bcher-kva.example 443
      - tcp bcher.example 443`,
  },
  {
    rule: { domain: "a.b", domain_suffix: "b" },
    requests: `
      + tcp a.b 1
      + tcp b 1
      + tcp c.b 1
      - tcp ab 1`,
  },
  {
    rule: { domain_keyword: ["Track", "ads"] },
    requests: `
      + tcp tracker.test 443
      + tcp my-TRACKing.test 443
      + tcp ads.test 443
      + tcp loads.test 443
      - tcp trac.test 443
      - tcp ad.s.test 443
      - tcp 192.0.2.1 443`,
  },
  {
    rule: { domain_keyword: ["he", "she", "hers", "his"] },
    requests: `
      + tcp ushers 1
      + tcp xhisx 1
      + tcp ahe.test 1
      - tcp hi.s.test 1
      - tcp usual.test 1`,
  },
  {
    rule: { domain_regex: ["^ad[0-9]+\\.", "\\.tracker\\.(com|net)$"] },
    requests: `
      + tcp ad1.example.com 443
      + tcp AD22.example.com 443
      - tcp xad1.example.com 443
      + tcp a.tracker.net 443
      + tcp a.tracker.net. 443
      - tcp a.tracker.network 443
      - tcp 10.0.0.1 443`,
  },
  {
    rule: { domain_regex: "(?i)^[[:alpha:]]+\\-x\\.test\\z" },
    requests: `
      + tcp abc-x.test 1
      - tcp abc1-x.test 1
      - tcp abc-x.test.a 1`,
  },
  {
    rule: { ip_cidr: ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"] },
    requests: `
      + tcp 10.0.0.0 1
      + tcp 10.255.255.255 1
      - tcp 11.0.0.0 1
      - tcp 9.255.255.255 1
      + tcp 192.0.2.7 1
      - tcp 192.0.2.6 1
      - tcp 192.0.2.8 1
      + tcp 2001:db8::1 1
      + tcp 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 1
      - tcp 2001:db9:: 1
      - tcp 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 1
      + tcp ::ffff:10.1.2.3 1
      - tcp example.com 1
      + tcp example.com 1 res=10.1.1.1
      + tcp example.com 1 res=1.1.1.1,2001:db8::5
      - tcp example.com 1 res=1.1.1.1`,
  },
  {
    rule: { ip_cidr: "0.0.0.0/0" },
    requests: `
      + tcp 0.0.0.0 1
      + tcp 255.255.255.255 1
      - tcp ::1 1
      - tcp example.com 1`,
  },
  {
    rule: { ip_cidr: ["128.0.0.0/1", "::/0", "255.255.255.255/32"] },
    requests: `
      + tcp 128.0.0.0 1
      + tcp 255.255.255.255 1
      - tcp 127.255.255.255 1
      + tcp :: 1
      + tcp ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 1`,
  },
  {
    rule: { ip_cidr: ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"] },
    requests: `
      + tcp 10.1.2.3 1
      + tcp 10.1.3.0 1
      + tcp 10.2.0.0 1
      - tcp 10.x.0.0 1`,
  },
  {
    rule: { ip_cidr: ["2001:db8:0:0:8000::/65", "2001:db8:1::1"] },
    requests: `
      + tcp 2001:db8::8000:0:0:0 1
      - tcp 2001:db8::7fff:ffff:ffff:ffff 1
      + tcp 2001:db8:1::1 1
      - tcp 2001:db8:1::2 1`,
  },
  {
    rule: { ip_is_private: true },
    requests: `
      + tcp 10.1.2.3 1
      + tcp 172.31.255.255 1
      - tcp 172.32.0.0 1
      + tcp 192.168.1.1 1
      + tcp 127.0.0.1 1
      + tcp 169.254.1.1 1
      + tcp 224.0.0.251 1
      + tcp 0.0.0.0 1
      - tcp 100.64.0.1 1
      - tcp 8.8.8.8 1
      + tcp ::1 1
      + tcp :: 1
      + tcp fe80::1 1
      + tcp fd00::1 1
      + tcp ff02::1 1
      - tcp 2606:4700::1111 1
      - tcp localhost 1`,
  },
  {
    rule: { domain: "a.test", ip_cidr: "10.0.0.0/8" },
    requests: `
      + tcp a.test 1
      + tcp 10.0.0.1 1
      - tcp b.test 1
      + tcp b.test 1 res=10.0.0.1
      + tcp 11.0.0.1 1 sniff=a.test`,
  },
  {
    rule: { port: 443 },
    requests: `
      + tcp a.test 443
      + udp 10.0.0.1 443
      - tcp a.test 80`,
  },
  {
    rule: { port: [22, 80], port_range: ["1000:1002", ":5", "65000:"] },
    requests: `
      + tcp a 22
      + tcp a 80
      - tcp a 81
      + tcp a 1000
      + tcp a 1002
      - tcp a 1003
      - tcp a 999
      + tcp a 0
      + tcp a 5
      - tcp a 6
      + tcp a 65000
      + tcp a 65535
      - tcp a 64999`,
  },
  {
    rule: { port: [1, 3, 5, 7, 9, 11, 13, 15, 17, 32, 63, 64] },
    requests: `
      + tcp a 1
      - tcp a 2
      + tcp a 17
      + tcp a 32
      - tcp a 31
      + tcp a 63
      + tcp a 64
      - tcp a 65`,
  },
  {
    rule: { source_ip_cidr: "192.168.0.0/16", source_port_range: "1024:" },
    requests: `
      + tcp a 1 from=192.168.1.1:2000
      - tcp a 1 from=192.168.1.1:80
      - tcp a 1 from=10.0.0.1:2000`,
  },
  {
    rule: { source_ip_is_private: true },
    requests: `
      + tcp a 1 from=10.1.1.1:5
      - tcp a 1 from=9.9.9.9:5
      + tcp a 1 from=fe80::1:5`,
  },
  {
    rule: { source_ip_is_private: true, source_ip_cidr: "9.9.9.9", source_port: [5, 6] },
    requests: `
      + tcp a 1 from=9.9.9.9:5
      + tcp a 1 from=127.0.0.1:6
      - tcp a 1 from=9.9.9.9:7
      - tcp a 1 from=9.9.9.8:5`,
  },
  {
    rule: { network: "udp" },
    requests: `
      + udp a 1
      - tcp a 1`,
  },
  {
    rule: { inbound: ["in-1", "in-2"], network: ["tcp", "udp"] },
    requests: `
      + tcp a 1 in=in-1
      + udp a 1 in=in-2
      - tcp a 1 in=in-3`,
  },
  {
    rule: { auth_user: ["ann", "bob"] },
    requests: `
      + tcp a 1 user=ann
      - tcp a 1 user=eve
      - tcp a 1`,
  },
  {
    rule: { protocol: ["tls", "quic"], client: "chromium" },
    requests: `
      + tcp a 1 proto=tls client=chromium
      - tcp a 1 proto=tls client=firefox
      - tcp a 1 proto=http client=chromium
      - tcp a 1 proto=tls
      - tcp a 1`,
  },
  {
    rule: { ip_version: 6 },
    requests: `
      + tcp ::1 1
      - tcp 127.0.0.1 1
      - tcp a.test 1`,
  },
  {
    rule: { ip_version: 4 },
    requests: `
      + tcp 127.0.0.1 1
      + tcp ::ffff:127.0.0.1 1
      - tcp ::1 1`,
  },
  {
    rule: { clash_mode: "Direct" },
    requests: `
      + tcp a 1 mode=direct
      + tcp a 1 mode=DIRECT
      - tcp a 1 mode=Rule
      - tcp a 1`,
  },
  {
    rule: { domain_suffix: "test", port: 443, network: "tcp" },
    requests: `
      + tcp a.test 443
      - udp a.test 443
      - tcp a.test 80
      - tcp a.example 443`,
  },
  {
    rule: { domain: "a.test", invert: true },
    requests: `
      - tcp a.test 1
      + tcp b.test 1
      + tcp 10.0.0.1 1`,
  },
  {
    rule: {},
    requests: `
      + tcp a 1
      + udp ::1 65535`,
  },
  {
    rule: { invert: true },
    requests: `
      - tcp a 1`,
  },
  {
    rule: { type: "logical", mode: "and", rules: [{ domain_suffix: "test" }, { port: 443 }] },
    requests: `
      + tcp a.test 443
      - tcp a.test 80
      - tcp a.com 443`,
  },
  {
    rule: { type: "logical", mode: "or", rules: [{ domain_suffix: "test" }, { port: 443 }] },
    requests: `
      + tcp a.test 80
      + tcp a.com 443
      - tcp a.com 80`,
  },
  {
    rule: {
      type: "logical",
      mode: "or",
      invert: true,
      rules: [{ network: "udp" }, {
        type: "logical",
        mode: "and",
        rules: [{ port: 1 }, { domain: "x" }],
      }],
    },
    requests: `
      - udp a 2
      - tcp x 1
      + tcp x 2
      + tcp y 1`,
  },
  {
    rule: {
      type: "logical",
      mode: "and",
      rules: [{ domain_suffix: "test", invert: true }, { ip_is_private: true, invert: true }],
    },
    requests: `
      - tcp a.test 1
      - tcp 10.0.0.1 1
      + tcp a.com 1
      + tcp 8.8.8.8 1`,
  },
  {
    rule: { rule_set: "names" },
    requests: `
      + tcp a.set.example 1
      + tcp set.example 1
      - tcp example 1
      - tcp 203.0.113.1 1`,
  },
  {
    rule: { rule_set: ["names", "blocks"] },
    requests: `
      + tcp set.example 1
      + tcp 203.0.113.1 1
      + tcp 2001:db8:5::1 1
      - tcp 203.0.114.1 1
      + tcp other.example 1 res=203.0.113.9`,
  },
  {
    rule: { rule_set: "names", domain: "own.example" },
    requests: `
      + tcp own.example 1
      + tcp set.example 1
      - tcp else.example 1`,
  },
  {
    rule: { rule_set: "names", port: 443 },
    requests: `
      + tcp set.example 443
      - tcp set.example 80
      - tcp own.example 443`,
  },
  {
    rule: { rule_set: "web", port: 8080 },
    requests: `
      + tcp a 8080
      + tcp a 443
      - tcp a 81`,
  },
  {
    rule: { rule_set: "strict", domain_suffix: "mine.example" },
    requests: `
      + tcp strict.example 8443
      + tcp a.mine.example 8443
      - tcp strict.example 443
      - tcp a.mine.example 443`,
  },
  {
    rule: { rule_set: "udp" },
    requests: `
      + udp udp.example 1
      - tcp udp.example 1`,
  },
  {
    rule: { rule_set: "not" },
    requests: `
      - tcp not.example 1
      + tcp a.example 1`,
  },
  {
    rule: { rule_set: "not", port: 443 },
    requests: `
      - tcp not.example 443
      + tcp a.example 443
      - tcp a.example 80`,
  },
  {
    rule: { rule_set: "both" },
    requests: `
      + tcp both.example 1
      - tcp both.example 2
      - tcp a.example 1`,
  },
  {
    rule: { rule_set: "several", invert: true },
    requests: `
      - tcp one.example 1
      - tcp two.example 1
      + tcp three.example 1`,
  },
  {
    rule: { rule_set: "blocks", rule_set_ip_cidr_match_source: true },
    requests: `
      + tcp a 1 from=203.0.113.5:1
      - tcp 203.0.113.5 1 from=10.0.0.1:1`,
  },
  {
    rule: {
      type: "logical",
      mode: "or",
      rules: [
        { rule_set: "blocks", rule_set_ip_cidr_match_source: true, port: 1 },
        { rule_set: "blocks", port: 2 },
      ],
    },
    requests: `
      + tcp a 1 from=203.0.113.5:1
      - tcp 203.0.113.5 1
      + tcp 203.0.113.5 2
      - tcp a 2 from=203.0.113.5:1`,
  },
  {
    rule: { rule_set: ["names", "strict"], network: "udp", source_port: 7 },
    requests: `
      + udp set.example 1 from=10.0.0.1:7
      - tcp set.example 1 from=10.0.0.1:7
      - udp set.example 1 from=10.0.0.1:8
      + udp strict.example 8443 from=10.0.0.1:7`,
  },
];

/** The same for DNS rules; `q` is the type of the question. */
export const DNS_CASES: readonly RouteCases[] = [
  {
    rule: { query_type: ["A", "AAAA", 65] },
    requests: `
      + udp a.test 53 q=1
      + udp a.test 53 q=28
      + udp a.test 53 q=65
      - udp a.test 53 q=16
      - udp a.test 53`,
  },
  {
    rule: { ip_version: 6 },
    requests: `
      + udp a.test 53 q=28
      - udp a.test 53 q=1`,
  },
  {
    rule: { outbound: "any" },
    requests: `
      + udp a.test 53 out=proxy
      - udp a.test 53`,
  },
  {
    rule: { outbound: "direct" },
    requests: `
      + udp a.test 53 out=direct
      - udp a.test 53 out=proxy
      - udp a.test 53`,
  },
  {
    rule: { ip_accept_any: true },
    requests: `
      + udp a.test 53 res=9.9.9.9
      + udp a.test 53 res=2620::1
      - udp a.test 53`,
  },
  {
    rule: { rule_set: "blocks", rule_set_ip_cidr_accept_empty: true },
    requests: `
      + udp a.test 53
      + udp a.test 53 res=203.0.113.1
      - udp a.test 53 res=203.0.112.1`,
  },
];
