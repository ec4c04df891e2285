#!/usr/bin/env node
// The first thing that runs, on whatever Node there is: say which one is needed before anything newer is parsed.
const [major] = process.versions.node.split('.');
if (Number(major) < 24) {
  console.error(
    `nrdot needs Node 24 or later; this is ${process.versions.node}. Start it as "npx nrdot …" or "npm run nrdot -- …" in the project, which use the pinned one.`,
  );
  process.exit(2);
}
const { withMemoryFlags } = await import('../src/memory-flags.ts');
withMemoryFlags();
const { main } = await import('../src/main.ts');
await main(process.argv);
