/**
 * The rules of this repository that a syntax tree can show. Each has bad and good code in the test beside it.
 *
 * @module
 */

import {
  isProtocol,
  isShipped,
  isTest,
  mayExit,
  mayPrint,
  mayUseDeno,
  pathInRepository,
} from "./lint_places.ts";

type Context = Deno.lint.RuleContext;
type Visitor = Deno.lint.LintVisitor;

/** A rule that only looks at files of one place. */
function ruleIn(
  place: (path: string) => boolean,
  visitor: (context: Context) => Visitor,
): Deno.lint.Rule {
  return {
    create: (context) => place(pathInRepository(context.filename)) ? visitor(context) : {},
  };
}

function everywhere(_path: string): boolean {
  return true;
}

/** The word a member expression ends in: `then` of `a.then` and of `a["then"]`. */
function memberName(node: Deno.lint.MemberExpression): string | undefined {
  if (node.property.type === "Identifier" && !node.computed) return node.property.name;
  return node.property.type === "Literal" ? String(node.property.value) : undefined;
}

/** Whether an identifier is a use of a name, not the name of a member or a key. */
function isReference(node: Deno.lint.Identifier): boolean {
  const parent = node.parent as Deno.lint.Node;
  if (parent.type === "MemberExpression") return parent.object === node || parent.computed;
  if (parent.type === "Property") return parent.value === node || parent.shorthand;
  return parent.type !== "MethodDefinition" && parent.type !== "PropertyDefinition" &&
    parent.type !== "TSPropertySignature" && parent.type !== "TSMethodSignature" &&
    parent.type !== "ImportSpecifier" && parent.type !== "ExportSpecifier";
}

const IMPURE: ReadonlySet<string> = new Set([
  "Deno",
  "process",
  "Date",
  "performance",
  "crypto",
  "console",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "clearTimeout",
  "clearInterval",
  "queueMicrotask",
  "Promise",
  "fetch",
]);

/** L2: a machine is a value; time, randomness and words to the world come from outside. */
const pureProtocol: Deno.lint.Rule = ruleIn(isProtocol, (context) => {
  const report = (node: Deno.lint.Node, what: string): void =>
    context.report({ node, message: `Protocol code is pure: no ${what} (L2)` });
  const refuseAsync = (
    node:
      | Deno.lint.FunctionDeclaration
      | Deno.lint.FunctionExpression
      | Deno.lint.ArrowFunctionExpression,
  ): void => {
    if (node.async) report(node, "async function");
  };
  return {
    Identifier(node) {
      if (IMPURE.has(node.name) && isReference(node)) report(node, node.name);
    },
    MemberExpression(node) {
      const isMath = node.object.type === "Identifier" && node.object.name === "Math";
      if (isMath && memberName(node) === "random") report(node, "Math.random");
    },
    ImportDeclaration(node) {
      if (node.source.value.startsWith("node:")) report(node, "node: module");
      if (node.source.value === "@logtape/logtape" || /\/log\.ts$/.test(node.source.value)) {
        report(node, "logger");
      }
    },
    TSTypeReference(node) {
      const name = node.typeName;
      if (name.type === "Identifier" && name.name === "Promise") report(node, "Promise");
    },
    FunctionDeclaration: refuseAsync,
    FunctionExpression: refuseAsync,
    ArrowFunctionExpression: refuseAsync,
    AwaitExpression: (node) => report(node, "await"),
  };
});

/** L10: libraries hand back and log; only the listed places print. */
const printInPlace: Deno.lint.Rule = ruleIn((path) => !mayPrint(path), (context) => ({
  MemberExpression(node) {
    const { object } = node;
    if (object.type === "Identifier" && object.name === "console") {
      context.report({
        node,
        message: "A library never prints; log through internal/log.ts (L10)",
      });
    }
    const name = memberName(node);
    const isDeno = object.type === "Identifier" && /^(?:Deno|process)$/.test(object.name);
    if (isDeno && (name === "stdout" || name === "stderr")) {
      context.report({ node, message: "A library never writes to the standard streams (L10)" });
    }
  },
}));

/** The process belongs to whoever runs it. */
const exitInPlace: Deno.lint.Rule = ruleIn((path) => !mayExit(path), (context) => ({
  MemberExpression(node) {
    const isProcess = node.object.type === "Identifier" &&
      /^(?:Deno|process)$/.test(node.object.name);
    if (isProcess && memberName(node) === "exit") {
      context.report({ node, message: "Only the command line ends the process" });
    }
  },
}));

/** Ecosystem §4.1: `globalThis.Deno` does not exist on Node. */
const denoInPlace: Deno.lint.Rule = ruleIn(
  (path) => isShipped(path) && !mayUseDeno(path),
  (context) => ({
    Identifier(node) {
      if (node.name === "Deno" && isReference(node)) {
        context.report({ node, message: "Deno is reached through ffi/ contracts only" });
      }
    },
  }),
);

/** Architecture §8.10: what Node 20.16 lacks, as `Object.member` or a member name of its own. */
const MISSING_STATICS: ReadonlySet<string> = new Set([
  "Promise.withResolvers",
  "Promise.try",
  "Array.fromAsync",
  "Uint8Array.fromHex",
  "Uint8Array.fromBase64",
  "Iterator.from",
  "Object.groupBy",
  "Map.groupBy",
]);

const MISSING_MEMBERS: ReadonlySet<string> = new Set([
  "toHex",
  "toBase64",
  "setFromHex",
  "setFromBase64",
]);

/** Iterator helpers are recognised on what this file makes with `new Map` or `new Set`: other receivers have no type here. */
const ITERATOR_MAKERS: ReadonlySet<string> = new Set(["keys", "values", "entries"]);
const ITERATOR_HELPERS: ReadonlySet<string> = new Set([
  "map",
  "filter",
  "take",
  "drop",
  "flatMap",
  "reduce",
  "toArray",
  "forEach",
  "some",
  "every",
  "find",
]);

const portabilityFloor: Deno.lint.Rule = ruleIn(isShipped, (context) => {
  const collections = new Set<string>();
  const helpers: (readonly [receiver: string, node: Deno.lint.Node, name: string])[] = [];
  const collect = (name: string | undefined, init: Deno.lint.Node | null | undefined): void => {
    const isCollection = init?.type === "NewExpression" && init.callee.type === "Identifier" &&
      (init.callee.name === "Map" || init.callee.name === "Set");
    if (name !== undefined && isCollection) collections.add(name);
  };
  return {
    VariableDeclarator: (node) =>
      collect(node.id.type === "Identifier" ? node.id.name : undefined, node.init),
    PropertyDefinition: (node) =>
      collect(
        node.key.type === "Identifier" || node.key.type === "PrivateIdentifier"
          ? node.key.name
          : undefined,
        node.value,
      ),
    MemberExpression(node) {
      const name = memberName(node);
      if (name === undefined) return;
      const { object } = node;
      const isCalled = (node.parent as Deno.lint.Node).type === "CallExpression";
      if (object.type === "Identifier" && MISSING_STATICS.has(`${object.name}.${name}`)) {
        context.report({ node, message: `${object.name}.${name} does not exist on Node 20` });
      } else if (MISSING_MEMBERS.has(name) && isCalled) {
        context.report({ node, message: `.${name}() does not exist on Node 20` });
      } else if (/^transfer(?:ToFixedLength)?$/.test(name) && isCalled) {
        if (/buffer$/i.test(receiverName(object) ?? "")) {
          context.report({ node, message: `.${name}() does not exist on Node 20` });
        }
      } else if (
        ITERATOR_HELPERS.has(name) && object.type === "CallExpression" &&
        object.callee.type === "MemberExpression" &&
        ITERATOR_MAKERS.has(memberName(object.callee) ?? "")
      ) {
        const receiver = receiverName(object.callee.object);
        if (receiver !== undefined) helpers.push([receiver, node, name]);
      }
    },
    Identifier(node) {
      if ((node.name === "Temporal" || node.name === "Buffer") && isReference(node)) {
        context.report({ node, message: `${node.name} is not used in libraries; see §8.10` });
      }
    },
    VariableDeclaration(node) {
      if (node.kind === "using" || node.kind === "await using") {
        context.report({ node, message: "`using` needs lowering for Node 20; close by hand" });
      }
    },
    "Program:exit"() {
      for (const [receiver, node, name] of helpers) {
        if (!collections.has(receiver)) continue;
        context.report({ node, message: `Iterator helper .${name}() does not exist on Node 20` });
      }
    },
  };
});

/** The last name of what a method is called on: `buffer` of `this.#buffer`. */
function receiverName(node: Deno.lint.Node): string | undefined {
  if (node.type === "Identifier") return node.name;
  if (node.type !== "MemberExpression") return undefined;
  return node.property.type === "PrivateIdentifier" ? node.property.name : memberName(node);
}

/** Node refuses to `require()` a graph with a top-level await, and importing must not act. */
const noTopLevelAwait: Deno.lint.Rule = ruleIn(isShipped, (context) => {
  const report = (node: Deno.lint.Node): void => {
    let parent = (node as Deno.lint.AwaitExpression).parent as Deno.lint.Node | undefined;
    while (parent !== undefined && parent.type !== "Program") {
      if (/Function|MethodDefinition|StaticBlock/.test(parent.type)) return;
      parent = (parent as Deno.lint.AwaitExpression).parent as Deno.lint.Node | undefined;
    }
    context.report({ node, message: "No top-level await" });
  };
  return {
    AwaitExpression: report,
    ForOfStatement: (node) => {
      if (node.await) report(node);
    },
  };
});

/** Workers are started at one place, with the literal URL that bundlers and compilers recognise. */
const workerInPlace: Deno.lint.Rule = ruleIn(isShipped, (context) => ({
  NewExpression(node) {
    if (node.callee.type !== "Identifier" || node.callee.name !== "Worker") return;
    const [url] = node.arguments;
    const literal = url?.type === "NewExpression" && url.callee.type === "Identifier" &&
      url.callee.name === "URL" && url.arguments[0]?.type === "Literal" &&
      /_worker\.ts$/.test(String(url.arguments[0].value));
    if (!literal && !/^ffi\/worker\.ts$/.test(pathInRepository(context.filename))) {
      context.report({
        node,
        message: 'Start workers by new URL("./x_worker.ts", import.meta.url)',
      });
    }
  },
}));

/** `#private` is private at run time and as fast (§1.1). */
const hashPrivate: Deno.lint.Rule = ruleIn(everywhere, (context) => {
  const report = (node: Deno.lint.Node): void =>
    context.report({ node, message: "Use #name instead of `private`" });
  const refuse = (node: Deno.lint.PropertyDefinition | Deno.lint.MethodDefinition): void => {
    // `protected` stays allowed, no other word lets a subclass in this package see a member; and so does a private
    // constructor, which has no name to put the # before.
    const isConstructor = node.type === "MethodDefinition" && node.kind === "constructor";
    if (node.accessibility === "private" && !isConstructor) report(node);
  };
  return {
    PropertyDefinition: refuse,
    MethodDefinition: refuse,
    TSParameterProperty: (node) => {
      // The plugin API of Deno 2.9 leaves `accessibility` of this node unset; the text has it. The node is missing
      // from the API's union too, so its parameter stands for it.
      const [from, to] = node.range;
      if (/^private\b/.test(context.sourceCode.text.slice(from, to))) report(node.parameter);
    },
  };
});

const namedExports: Deno.lint.Rule = ruleIn(
  // A lint plugin is the one module whose host asks for a default export.
  (path) => path !== "tools/lint_plugin.ts",
  (context) => ({
    ExportDefaultDeclaration: (node) =>
      context.report({ node, message: "Export by name, not by default" }),
  }),
);

const noEnum: Deno.lint.Rule = ruleIn(everywhere, (context) => ({
  TSEnumDeclaration: (node) =>
    context.report({ node, message: "Use an `as const` object and a union of the same name" }),
}));

/** A declared function is hoisted, named in stacks and read first. Tests may be shorter. */
const declaredFunctions: Deno.lint.Rule = ruleIn((path) => !isTest(path), (context) => ({
  VariableDeclarator(node) {
    const { init, id } = node;
    if (init?.type !== "ArrowFunctionExpression" && init?.type !== "FunctionExpression") return;
    const declaration = node.parent as Deno.lint.Node;
    const above = (declaration as Deno.lint.VariableDeclaration).parent as Deno.lint.Node;
    const isTop = above.type === "Program" || above.type === "ExportNamedDeclaration";
    // With a type of its own it is a value that implements a contract.
    const isTyped = id.type === "Identifier" && id.typeAnnotation !== undefined &&
      id.typeAnnotation !== null;
    if (isTop && !isTyped) {
      context.report({ node, message: "Declare top-level functions with `function`" });
    }
  },
}));

const ERROR_CLASSES = /^(?:Type|Range|Syntax)Error$/;

/** Architecture §9.2: *Cannot do what: state, expectation*; no period at the end, no contractions. */
const errorGrammar: Deno.lint.Rule = ruleIn(isShipped, (context) => ({
  NewExpression(node) {
    if (node.callee.type !== "Identifier") return;
    if (node.callee.name === "Error" && (node.parent as Deno.lint.Node).type === "ThrowStatement") {
      context.report({ node, message: "Throw a class of §9.1, not Error" });
    }
    if (!ERROR_CLASSES.test(node.callee.name)) return;
    const [message] = node.arguments;
    const first = message?.type === "Literal"
      ? String(message.value)
      : message?.type === "TemplateLiteral"
      ? message.quasis[0]?.cooked ?? ""
      : undefined;
    if (first === undefined) return;
    const last = message?.type === "TemplateLiteral" ? message.quasis.at(-1)?.cooked ?? "" : first;
    if (first !== "" && !first.startsWith("Cannot ")) {
      context.report({ node, message: 'Begin an error message with "Cannot "' });
    }
    if (last.endsWith(".")) {
      context.report({ node, message: "End an error message without a period" });
    }
    if (/\b\w+n't\b/.test(first + last)) {
      context.report({ node, message: "Write error messages without contractions" });
    }
  },
}));

const plugin: Deno.lint.Plugin = {
  name: "fastwire",
  rules: {
    "pure-protocol": pureProtocol,
    "print-in-place": printInPlace,
    "exit-in-place": exitInPlace,
    "deno-in-place": denoInPlace,
    "portability-floor": portabilityFloor,
    "no-top-level-await": noTopLevelAwait,
    "worker-in-place": workerInPlace,
    "hash-private": hashPrivate,
    "named-exports": namedExports,
    "no-enum": noEnum,
    "declared-functions": declaredFunctions,
    "error-grammar": errorGrammar,
  },
};

export default plugin;
