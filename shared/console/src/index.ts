export { addConsole } from './console.ts';
export { addDoctor } from './doctor.ts';
export { readEvents } from './events.ts';
