#!/usr/bin/env node
import { withMemoryFlags } from './memory-flags.ts';

withMemoryFlags();
const { main } = await import('./main.ts');
await main(process.argv);
