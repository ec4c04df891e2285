declare module 'luaparse' {
  export function parse(source: string, options: Record<string, unknown>): unknown;
}
