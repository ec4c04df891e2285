export { crc32c } from './crc32c.ts';
export { DirectoryLock, DirectoryTaken } from './directory-lock.ts';
export * from './entry.ts';
export { SegmentLogError, type SegmentLogFault } from './errors.ts';
export { type File, type FileSystem, NodeFileSystem, replaceFile, withFile } from './file-system.ts';
export * from './offline.ts';
export { oneByOne } from './one-by-one.ts';
export { QUARANTINE } from './quarantine.ts';
export {
  AREAS,
  type Area,
  type Envelope,
  ITEMS_MAX,
  RECORD_SIGNALS,
  type Record as StoredRecord,
} from './record.ts';
export * from './segment-log.ts';
