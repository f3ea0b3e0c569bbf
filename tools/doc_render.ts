/**
 * The nodes of `deno doc --json` as TypeScript text.
 *
 * @module
 */

/** Any node of the answer; which fields exist depends on `kind`. */
export interface DocNode {
  readonly kind?: string;
  readonly name?: string;
  readonly [field: string]: unknown;
}

/**
 * The lines that declare a symbol: one, or a head with one line a member.
 *
 * @param name The name it is exported under.
 * @throws {Error} For a node this renderer does not know; a new kind of syntax must not go unseen.
 */
export function declarationLines(name: string, declaration: DocNode): readonly string[] {
  const def = node(declaration["def"] ?? {});
  const generics = typeParameters(def);
  switch (declaration.kind) {
    case "function":
      return [`function ${name}${generics}${signature(def, "returnType")}`];
    case "variable":
      // A constant of a literal value needs no written type and has none here.
      return [`${def.kind} ${name}${def["tsType"] ? `: ${typeText(def["tsType"])}` : ""}`];
    case "typeAlias":
      return [`type ${name}${generics} = ${typeText(def["tsType"])}`];
    case "interface": {
      const bases = nodes(def["extends"]).map(typeText).join(", ");
      return [
        `interface ${name}${generics}${bases === "" ? "" : ` extends ${bases}`}`,
        ...memberLines(def),
      ];
    }
    case "class":
      return [classHead(name, generics, def), ...classLines(def)];
    case "namespace":
      return [`namespace ${name}`];
    default:
      throw new Error(`Cannot render ${name}: unknown declaration "${declaration.kind}"`);
  }
}

/** A type as it would be written. */
export function typeText(input: unknown): string {
  if (input === undefined || input === null) return "unknown";
  const type = node(input);
  const value = type["value"];
  switch (type.kind) {
    case "keyword":
    case "typeQuery":
      return type.kind === "keyword" ? String(value) : `typeof ${value}`;
    case "this":
      return "this";
    case "literal":
      return literalText(node(value));
    case "typeRef": {
      const { typeName } = node(value);
      return `${typeName}${typeArguments(node(value)["typeParams"])}`;
    }
    case "array":
      return `${typeText(value)}[]`;
    case "parenthesized":
      return `(${typeText(value)})`;
    case "optional":
      return `${typeText(value)}?`;
    case "rest":
      return `...${typeText(value)}`;
    case "tuple":
      return `[${nodes(value).map(typeText).join(", ")}]`;
    case "union":
      return nodes(value).map(typeText).join(" | ");
    case "intersection":
      return nodes(value).map(typeText).join(" & ");
    case "typeOperator":
      return `${node(value)["operator"]} ${typeText(node(value)["tsType"])}`;
    case "indexedAccess":
      return `${typeText(node(value)["objType"])}[${typeText(node(value)["indexType"])}]`;
    case "importType":
      return `import("${node(value)["specifier"]}").${node(value)["qualifier"]}`;
    case "infer":
      return `infer ${node(node(value)["typeParam"]).name}`;
    case "conditional": {
      const { checkType, extendsType, trueType, falseType } = node(value);
      return `${typeText(checkType)} extends ${typeText(extendsType)} ? ${typeText(trueType)} : ${
        typeText(falseType)
      }`;
    }
    case "mapped": {
      const mapped = node(value);
      const parameter = node(mapped["typeParam"]);
      return `{ ${mapped["readonly"] ? "readonly " : ""}[${parameter.name} in ${
        typeText(parameter["constraint"])
      }]${mapped["optional"] ? "?" : ""}: ${typeText(mapped["tsType"])} }`;
    }
    case "typeLiteral":
      return `{ ${memberLines(node(value)).map((line) => line.trim()).join("; ")} }`;
    case "fnOrConstructor": {
      const fn = node(value);
      const head = `${fn["constructor"] ? "new " : ""}${typeParameters(fn)}`;
      return `${head}(${parameters(fn["params"])}) => ${typeText(fn["tsType"])}`;
    }
    case "typePredicate": {
      const predicate = node(value);
      const subject = node(predicate["param"]).name ?? "this";
      const type = predicate["type"] ? ` is ${typeText(predicate["type"])}` : "";
      return `${predicate["asserts"] ? "asserts " : ""}${subject}${type}`;
    }
    default:
      throw new Error(`Cannot render a type: unknown kind "${type.kind}"`);
  }
}

function classHead(name: string, generics: string, def: DocNode): string {
  const base = def["extends"]
    ? ` extends ${def["extends"]}${typeArguments(def["superTypeParams"])}`
    : "";
  const contracts = nodes(def["implements"]).map(typeText).join(", ");
  const head = `${def["isAbstract"] ? "abstract " : ""}class ${name}${generics}${base}`;
  return contracts === "" ? head : `${head} implements ${contracts}`;
}

function classLines(def: DocNode): readonly string[] {
  const words = (member: DocNode): string =>
    (["isStatic", "isAbstract", "readonly"] as const).filter((word) => member[word])
      .map((word) => `${word.replace("is", "").toLowerCase()} `).join("");
  return [
    ...nodes(def["constructors"]).map((made) => `  constructor(${parameters(made["params"])})`),
    ...nodes(def["properties"]).filter(isPublic).map((property) =>
      `  ${words(property)}${property.name}${property["optional"] ? "?" : ""}: ${
        typeText(property["tsType"])
      }`
    ),
    ...nodes(def["methods"]).filter(isPublic).map((method) => {
      const fn = node(method["functionDef"]);
      const accessor = method.kind === "getter" ? "get " : method.kind === "setter" ? "set " : "";
      const name = `${method.name}${method["optional"] ? "?" : ""}`;
      return `  ${words(method)}${accessor}${name}${typeParameters(fn)}${
        signature(fn, "returnType")
      }`;
    }),
    ...indexLines(def),
  ];
}

function memberLines(def: DocNode): readonly string[] {
  return [
    ...nodes(def["constructors"]).map((made) => `  new ${signature(made, "returnType")}`),
    ...nodes(def["callSignatures"]).map((call) =>
      `  ${typeParameters(call)}${signature(call, "tsType")}`
    ),
    ...nodes(def["properties"]).map((property) =>
      `  ${property["readonly"] ? "readonly " : ""}${property.name}${
        property["optional"] ? "?" : ""
      }: ${typeText(property["tsType"])}`
    ),
    ...nodes(def["methods"]).map((method) =>
      `  ${
        method.kind === "getter" ? "get " : method.kind === "setter" ? "set " : ""
      }${method.name}${method["optional"] ? "?" : ""}${typeParameters(method)}${
        signature(method, "returnType")
      }`
    ),
    ...indexLines(def),
  ];
}

function indexLines(def: DocNode): readonly string[] {
  return nodes(def["indexSignatures"]).map((index) =>
    `  ${index["readonly"] ? "readonly " : ""}[${parameters(index["params"])}]: ${
      typeText(index["tsType"])
    }`
  );
}

function signature(fn: DocNode, answer: "returnType" | "tsType"): string {
  const type = fn[answer];
  return `(${parameters(fn["params"])})${type ? `: ${typeText(type)}` : ""}`;
}

function parameters(input: unknown): string {
  return nodes(input).map(parameterText).join(", ");
}

function parameterText(parameter: DocNode): string {
  const type = parameter["tsType"] ? `: ${typeText(parameter["tsType"])}` : "";
  switch (parameter.kind) {
    case "identifier":
      return `${parameter.name}${parameter["optional"] ? "?" : ""}${type}`;
    case "rest":
      return `...${node(parameter["arg"]).name}${type}`;
    case "assign":
      return parameterText({ ...node(parameter["left"]), optional: true });
    case "object":
      return `options${parameter["optional"] ? "?" : ""}${type}`;
    case "array":
      return `list${parameter["optional"] ? "?" : ""}${type}`;
    default:
      throw new Error(`Cannot render a parameter: unknown kind "${parameter.kind}"`);
  }
}

function typeParameters(def: DocNode): string {
  const list = nodes(def["typeParams"]);
  if (list.length === 0) return "";
  return `<${
    list.map((parameter) =>
      parameter.name +
      (parameter["constraint"] ? ` extends ${typeText(parameter["constraint"])}` : "") +
      (parameter["default"] ? ` = ${typeText(parameter["default"])}` : "")
    ).join(", ")
  }>`;
}

function typeArguments(input: unknown): string {
  const list = nodes(input);
  return list.length === 0 ? "" : `<${list.map(typeText).join(", ")}>`;
}

function literalText(literal: DocNode): string {
  switch (literal.kind) {
    case "string":
      return JSON.stringify(literal["string"]);
    case "number":
      return String(literal["number"] ?? 0);
    case "bigInt":
      return `${literal["string"]}n`;
    case "boolean":
      return String(literal["boolean"] ?? false);
    case "template":
      return `\`${
        nodes(literal["tsTypes"]).map((part) => {
          const text = node(part["value"] ?? {});
          const isText = part.kind === "literal" && text.kind === "string";
          return isText ? String(text["string"] ?? "") : `\${${typeText(part)}}`;
        }).join("")
      }\``;
    default:
      throw new Error(`Cannot render a literal: unknown kind "${literal.kind}"`);
  }
}

function isPublic(member: DocNode): boolean {
  return member["accessibility"] !== "private" && member["accessibility"] !== "protected";
}

function node(input: unknown): DocNode {
  return input as DocNode;
}

function nodes(input: unknown): readonly DocNode[] {
  return Array.isArray(input) ? input : [];
}
