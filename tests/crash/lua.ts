/**
 * Lua 5.1 as far as the queue's scripts use it, translated to JavaScript: the crash model runs the product's own scripts,
 * some 100 times as fast as an interpreter would. Numbers are doubles in both languages. What is not known here is an
 * error at translation, never a guess.
 */
import { parse } from 'luaparse';

export type LuaValue = undefined | boolean | number | string | LuaTable | LuaFunction;
export type LuaFunction = (...args: LuaValue[]) => unknown;

/** A table: a list from 1 on, and the rest by key. */
export class LuaTable {
  readonly list: LuaValue[] = [];
  readonly rest = new Map<LuaValue, LuaValue>();

  get(key: LuaValue): LuaValue {
    if (typeof key === 'number' && key >= 1 && key <= this.list.length) return this.list[key - 1];
    return this.rest.get(key);
  }

  set(key: LuaValue, value: LuaValue): void {
    const { list, rest } = this;
    if (typeof key === 'number' && key >= 1 && key <= list.length + 1) {
      if (value !== undefined) list[key - 1] = value;
      else if (key === list.length) list.pop();
      else if (key <= list.length) {
        // A hole: what is behind it is no list any more.
        for (let i = key + 1; i <= list.length; i++) rest.set(i, list[i - 1]);
        list.length = key - 1;
      }
      for (let next = rest.get(list.length + 1); next !== undefined; next = rest.get(list.length + 1)) {
        rest.delete(list.length + 1);
        list.push(next);
      }
      return;
    }
    if (value === undefined) rest.delete(key);
    else rest.set(key, value);
  }

  /** Of values none of which is nil. */
  static of(values: readonly LuaValue[]): LuaTable {
    const table = new LuaTable();
    table.list.push(...values);
    return table;
  }
}

/** Several values, as a function returns them. */
export class Values extends Array<LuaValue> {}

export class LuaError extends Error {}

interface Node {
  type: string;
  [field: string]: unknown;
}

/** Names of JavaScript that a local of Lua may have. */
const local = (name: string) => `l_${name}`;
const nodes = (value: unknown) => value as Node[];
const node = (value: unknown) => value as Node;
const nameOf = (value: unknown) => (value as { name: string }).name;

/** Translates a script; the result takes KEYS and ARGV and the globals it may use. */
export function translate(lua: string): (globals: LuaTable) => unknown {
  const source = lua.replace(/^#!.*/, '');
  const chunk = parse(source, { luaVersion: '5.1', comments: false, encodingMode: 'pseudo-latin1' });
  const body = new Translator().block(nodes((chunk as unknown as Node).body));
  return new Function('G', 'L', `'use strict';${body}`).bind(undefined) as (globals: LuaTable) => unknown;
}

/** As `translate`, ready to be run. */
export function compile(lua: string): (globals: LuaTable) => LuaValue {
  const run = translate(lua) as unknown as (globals: LuaTable, runtime: typeof RUNTIME) => unknown;
  return (globals) => first(run(globals, RUNTIME));
}

class Translator {
  /** Names of locals by scope: what is none of them is a global. */
  #scopes: Set<string>[] = [new Set()];
  #counter = 0;

  block(statements: readonly Node[]): string {
    this.#scopes.push(new Set());
    const text = statements.map((statement) => this.#statement(statement)).join('\n');
    this.#scopes.pop();
    return text;
  }

  #declare(name: string): string {
    this.#scopes.at(-1)!.add(name);
    return local(name);
  }

  #isLocal(name: string): boolean {
    return this.#scopes.some((scope) => scope.has(name));
  }

  #fresh(): string {
    return `t${this.#counter++}`;
  }

  #statement(s: Node): string {
    switch (s.type) {
      case 'LocalStatement':
        return this.#local(s);
      case 'AssignmentStatement':
        return this.#assign(s);
      case 'CallStatement':
        return `${this.#call(node(s.expression))};`;
      case 'FunctionDeclaration': {
        if (!s.isLocal) throw new LuaError('only local functions are known');
        const name = this.#declare(nameOf(s.identifier));
        return `let ${name} = ${this.#function(s)};`;
      }
      case 'IfStatement':
        return nodes(s.clauses)
          .map((clause, i) => {
            const head = clause.type === 'ElseClause' ? '' : `if (${this.#truth(node(clause.condition))}) `;
            return `${i > 0 ? 'else ' : ''}${head}{${this.block(nodes(clause.body))}}`;
          })
          .join(' ');
      case 'WhileStatement':
        return `while (${this.#truth(node(s.condition))}) {${this.block(nodes(s.body))}}`;
      case 'ForNumericStatement':
        return this.#numeric(s);
      case 'ForGenericStatement':
        return this.#generic(s);
      case 'BreakStatement':
        return 'break;';
      case 'ReturnStatement':
        return this.#return(nodes(s.arguments));
      default:
        throw new LuaError(`the statement ${s.type} is not known`);
    }
  }

  #local(s: Node): string {
    const init = nodes(s.init);
    const names = nodes(s.variables).map(nameOf);
    if (names.length === 1 || init.every((each) => !isCall(each))) {
      const values = names.map((_, i) => (init[i] ? this.#single(init[i]) : 'undefined'));
      return names.map((name, i) => `let ${this.#declare(name)} = ${values[i]};`).join(' ');
    }
    const values = this.#fresh();
    const list = this.#list(init);
    return `const ${values} = ${list}; ${names.map((name, i) => `let ${this.#declare(name)} = ${values}[${i}];`).join(' ')}`;
  }

  #assign(s: Node): string {
    const targets = nodes(s.variables);
    const init = nodes(s.init);
    if (targets.length === 1) return `${this.#store(targets[0]!, this.#single(init[0]!))};`;
    const values = this.#fresh();
    return `const ${values} = ${this.#list(init)}; ${targets.map((target, i) => `${this.#store(target, `${values}[${i}]`)};`).join(' ')}`;
  }

  #store(target: Node, value: string): string {
    if (target.type === 'Identifier') {
      const name = nameOf(target);
      if (!this.#isLocal(name)) throw new LuaError(`${name} is no local`); // Redis refuses it too
      return `${local(name)} = ${value}`;
    }
    const [base, key] = this.#place(target);
    return `L.set(${base}, ${key}, ${value})`;
  }

  #place(s: Node): [base: string, key: string] {
    const base = this.#single(node(s.base));
    if (s.type === 'IndexExpression') return [base, this.#single(node(s.index))];
    if (s.type === 'MemberExpression' && s.indexer === '.')
      return [base, JSON.stringify(nameOf(s.identifier))];
    throw new LuaError(`the place ${s.type} is not known`);
  }

  #numeric(s: Node): string {
    const [from, to, step] = [s.start, s.end, s.step].map((each) => (each ? this.#single(node(each)) : '1'));
    const [i, end, by] = [this.#fresh(), this.#fresh(), this.#fresh()];
    this.#scopes.push(new Set());
    const name = this.#declare(nameOf(s.variable));
    const body = this.block(nodes(s.body));
    this.#scopes.pop();
    return `for (let ${i} = ${from}, ${end} = ${to}, ${by} = ${step}; ${by} > 0 ? ${i} <= ${end} : ${i} >= ${end}; ${i} += ${by}) {let ${name} = ${i}; ${body}}`;
  }

  #generic(s: Node): string {
    const [iterator] = nodes(s.iterators);
    if (iterator?.type !== 'CallExpression') throw new LuaError('expected pairs(…) or ipairs(…)');
    const kind = nameOf(iterator.base);
    if (kind !== 'pairs' && kind !== 'ipairs') throw new LuaError(`the iterator ${kind} is not known`);
    const table = this.#single(nodes(iterator.arguments)[0]!);
    this.#scopes.push(new Set());
    const names = nodes(s.variables).map((variable) => this.#declare(nameOf(variable)));
    const body = this.block(nodes(s.body));
    this.#scopes.pop();
    return `for (let [${names.join(', ')}] of L.${kind}(${table})) {${body}}`;
  }

  #return(args: readonly Node[]): string {
    if (args.length === 0) return 'return undefined;';
    if (args.length === 1) return `return ${this.#expression(args[0]!)};`;
    return `return L.values(${this.#list(args)});`;
  }

  #function(s: Node): string {
    this.#scopes.push(new Set());
    const parameters = nodes(s.parameters).map((parameter) => this.#declare(nameOf(parameter)));
    const body = this.block(nodes(s.body));
    this.#scopes.pop();
    return `function (${parameters.join(', ')}) {${body}}`;
  }

  #truth(e: Node): string {
    if (e.type === 'BinaryExpression' && ['==', '~=', '<', '<=', '>', '>='].includes(String(e.operator)))
      return this.#single(e);
    return `L.truth(${this.#single(e)})`;
  }

  /** One value of it. */
  #single(e: Node): string {
    return isCall(e) ? `L.first(${this.#call(e)})` : this.#expression(e);
  }

  /** An array of all values. */
  #list(all: readonly Node[]): string {
    const last = all.at(-1);
    if (last && isCall(last)) {
      return `[${[...all.slice(0, -1).map((e) => this.#single(e)), `...L.all(${this.#call(last)})`].join(', ')}]`;
    }
    return `[${all.map((e) => this.#single(e)).join(', ')}]`;
  }

  #call(e: Node): string {
    if (e.type === 'TableCallExpression')
      return `${this.#single(node(e.base))}(${this.#expression(node(e.arguments))})`;
    if (e.type === 'StringCallExpression')
      return `${this.#single(node(e.base))}(${this.#expression(node(e.argument))})`;
    const args = nodes(e.arguments);
    const spread =
      args.length > 0 && isCall(args.at(-1)!)
        ? `...${this.#list(args)}`
        : args.map((arg) => this.#single(arg)).join(', ');
    return `${this.#single(node(e.base))}(${spread})`;
  }

  #expression(e: Node): string {
    switch (e.type) {
      case 'NilLiteral':
        return 'undefined';
      case 'BooleanLiteral':
      case 'NumericLiteral':
        return String(e.value);
      case 'StringLiteral':
        return JSON.stringify(e.value);
      case 'Identifier': {
        const name = nameOf(e);
        return this.#isLocal(name) ? local(name) : `G.get(${JSON.stringify(name)})`;
      }
      case 'IndexExpression':
      case 'MemberExpression': {
        const [base, key] = this.#place(e);
        return `L.get(${base}, ${key})`;
      }
      case 'CallExpression':
      case 'TableCallExpression':
      case 'StringCallExpression':
        return this.#call(e);
      case 'FunctionDeclaration':
        return this.#function(e);
      case 'TableConstructorExpression':
        return this.#table(nodes(e.fields));
      case 'LogicalExpression': {
        const [left, right] = [this.#single(node(e.left)), this.#single(node(e.right))];
        const kept = this.#fresh();
        // An arrow keeps the left value without evaluating it twice.
        return `((${kept}) => L.truth(${kept}) ? ${e.operator === 'and' ? right : kept} : ${e.operator === 'and' ? kept : right})(${left})`;
      }
      case 'UnaryExpression': {
        const value = this.#single(node(e.argument));
        if (e.operator === 'not') return `!L.truth(${value})`;
        return e.operator === '#' ? `L.length(${value})` : `-L.number(${value})`;
      }
      case 'BinaryExpression':
        return this.#binary(e);
      default:
        throw new LuaError(`the expression ${e.type} is not known`);
    }
  }

  #binary(e: Node): string {
    const [left, right] = [this.#single(node(e.left)), this.#single(node(e.right))];
    const operator = String(e.operator);
    switch (operator) {
      case '==':
        return `(${left} === ${right})`;
      case '~=':
        return `(${left} !== ${right})`;
      case '<':
      case '<=':
      case '>':
      case '>=':
        return `(L.ordered(${left}) ${operator} L.ordered(${right}))`;
      case '..':
        return `L.concat(${left}, ${right})`;
      case '+':
      case '-':
      case '*':
      case '/':
        return `(L.number(${left}) ${operator} L.number(${right}))`;
      case '%':
        return `L.modulo(L.number(${left}), L.number(${right}))`;
      case '^':
        return `(L.number(${left}) ** L.number(${right}))`;
      default:
        throw new LuaError(`the operator ${operator} is not known`);
    }
  }

  #table(fields: readonly Node[]): string {
    const table = this.#fresh();
    let index = 1;
    const sets = fields.map((field, i) => {
      const value = node(field.value);
      if (field.type === 'TableKeyString') {
        return `${table}.set(${JSON.stringify(nameOf(field.key))}, ${this.#single(value)});`;
      }
      if (field.type === 'TableKey')
        return `${table}.set(${this.#single(node(field.key))}, ${this.#single(value)});`;
      if (i === fields.length - 1 && isCall(value)) {
        return `L.all(${this.#call(value)}).forEach((value, i) => ${table}.set(${index} + i, value));`;
      }
      return `${table}.set(${index++}, ${this.#single(value)});`;
    });
    return `((${table}) => {${sets.join(' ')} return ${table};})(new L.LuaTable())`;
  }
}

function isCall(e: Node): boolean {
  return ['CallExpression', 'TableCallExpression', 'StringCallExpression'].includes(e.type);
}

export function first(value: unknown): LuaValue {
  return value instanceof Values ? value[0] : (value as LuaValue);
}

/** As Lua prints it: 14 digits. */
export function text(value: LuaValue): string {
  if (typeof value === 'string') return value;
  if (typeof value !== 'number') throw new LuaError(`attempt to concatenate a ${typeof value} value`);
  if (Number.isInteger(value) && Math.abs(value) < 1e14) return String(value);
  return String(Number(value.toPrecision(14))).replace(/e([+-])(\d)$/, 'e$10$2');
}

function number(value: LuaValue): number {
  if (typeof value === 'number') return value;
  const converted = toNumber(value);
  if (converted === undefined) throw new LuaError(`attempt to perform arithmetic on a ${kind(value)} value`);
  return converted;
}

export function toNumber(value: LuaValue): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string' || value.trim() === '') return undefined;
  const converted = Number(value);
  return Number.isNaN(converted) ? undefined : converted;
}

export function kind(value: LuaValue): string {
  if (value === undefined) return 'nil';
  return value instanceof LuaTable ? 'table' : typeof value;
}

const RUNTIME = {
  LuaTable,
  first,
  all: (value: unknown): readonly LuaValue[] => (value instanceof Values ? value : [value as LuaValue]),
  values: (list: LuaValue[]) => Values.from(list),
  truth: (value: LuaValue) => value !== undefined && value !== false,
  get(base: LuaValue, key: LuaValue): LuaValue {
    if (base instanceof LuaTable) return base.get(key);
    throw new LuaError(`attempt to index a ${kind(base)} value (field '${String(key)}')`);
  },
  set(base: LuaValue, key: LuaValue, value: LuaValue): void {
    if (!(base instanceof LuaTable)) throw new LuaError(`attempt to index a ${kind(base)} value`);
    base.set(key, value);
  },
  number,
  ordered(value: LuaValue): number | string {
    if (typeof value === 'number' || typeof value === 'string') return value;
    throw new LuaError(`attempt to compare a ${kind(value)} value`);
  },
  concat: (a: LuaValue, b: LuaValue) => text(a) + text(b),
  modulo: (a: number, b: number) => a - Math.floor(a / b) * b,
  length(value: LuaValue): number {
    if (typeof value === 'string') return value.length;
    if (value instanceof LuaTable) return value.list.length;
    throw new LuaError(`attempt to get length of a ${kind(value)} value`);
  },
  *ipairs(table: LuaTable): Iterable<[number, LuaValue]> {
    for (let i = 1; table.get(i) !== undefined; i++) yield [i, table.get(i)];
  },
  *pairs(table: LuaTable): Iterable<[LuaValue, LuaValue]> {
    for (const [i, value] of [...table.list.entries()]) yield [i + 1, value];
    yield* [...table.rest];
  },
};
