export { crc32c } from './crc32c.ts';
export { DirectoryLock, DirectoryTaken } from './directory-lock.ts';
export {
  ALWAYS,
  type DropReason,
  type Entry,
  type LogEvents,
  type Period,
  type Position,
  WRITE_OFF_REASONS,
  type WriteOffs,
} from './entry.ts';
export { SegmentLogError, type SegmentLogFault } from './errors.ts';
export { type File, type FileSystem, NodeFileSystem, replaceFile, withFile } from './file-system.ts';
export {
  type DirectoryEntry,
  readDirectory,
  readSegment,
  type SegmentReport,
  verifyDirectory,
} from './offline.ts';
export { oneByOne } from './one-by-one.ts';
export { QUARANTINE } from './quarantine.ts';
export { AREAS, type Area, type Envelope, type Record as StoredRecord } from './record.ts';
export * from './segment-log.ts';
