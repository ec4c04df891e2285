/**
 * Compiles scan.as and histogram.as and writes bytes.ts. Run it after changing them; needs the AssemblyScript compiler:
 *
 *   node services/receiver/src/limiter/kernel/build.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';

const OPTIONS = '--runtime stub --noAssert -O3 --enable simd --converge --initialMemory 3 --maximumMemory 3';

/** The compiled kernel. */
export async function compileKernel(compiler = 'assemblyscript/asc'): Promise<Uint8Array> {
  const asc = await import(compiler);
  const sources = new Map(
    ['scan', 'histogram'].map((name) => [
      `${name}.ts`,
      readFileSync(new URL(`./${name}.as`, import.meta.url), 'utf8'),
    ]),
  );
  let binary: Uint8Array | undefined;
  const { error, stderr } = await asc.main(['scan.ts', '--outFile', 'scan.wasm', ...OPTIONS.split(' ')], {
    readFile: (name: string) => sources.get(name) ?? null,
    writeFile: (name: string, contents: Uint8Array) => {
      if (name === 'scan.wasm') binary = contents;
    },
    listFiles: () => [],
  });
  if (error || !binary) throw new Error(`the kernel does not compile: ${stderr}`);
  return binary;
}

if (import.meta.main) {
  const base64 = Buffer.from(await compileKernel(process.argv[2])).toString('base64');
  const lines = base64.match(/.{1,100}/g)!.map((line) => `  '${line}',`);
  writeFileSync(
    new URL('./bytes.ts', import.meta.url),
    `/** scan.as and histogram.as, compiled by build.ts. */\nexport const KERNEL_BASE64 = [\n${lines.join('\n')}\n].join('');\n`,
  );
}
