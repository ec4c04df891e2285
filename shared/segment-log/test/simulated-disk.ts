import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import type { File, FileSystem } from '../src/file-system.ts';

/** Smaller than a real one, as the files of tests are: a group of records is to be spread over several. */
const PAGE_BYTES = 64;

/** A disk that forgets what was not synced, may tear what was being written, and fails as it is told. */
export class SimulatedDisk {
  /** Files by path as a running program sees them, and as a crash would leave the names. */
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #dirs = new Set<string>();
  #durableDirs = new Set<string>();
  readonly #random: () => number;
  /** A program that lived before a crash can't touch the disk any more. */
  #life = 0;
  #writesUntilPowerCut = Number.POSITIVE_INFINITY;
  capacityBytes = Number.POSITIVE_INFINITY;
  /** Called before each operation that writes; may throw. */
  beforeWrite: ((operation: string, path: string) => void) | undefined;
  /** Called before a file or directory is opened that is there, for whatever; may throw. */
  beforeOpen: ((path: string) => void) | undefined;
  /** Called before each read; may throw. */
  beforeRead: ((path: string, at: number, bytes: number) => void) | undefined;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** After so many more operations that write nothing works any more, until `crash()`. */
  cutPowerAfter(writes: number): void {
    this.#writesUntilPowerCut = writes;
  }

  get powered(): boolean {
    return this.#writesUntilPowerCut > 0;
  }

  /** Power goes: of what was not synced, any part may be there, and the last piece torn. */
  crash(): void {
    this.#life++;
    this.#writesUntilPowerCut = Number.POSITIVE_INFINITY;
    const survivors = new Map<string, Inode>();
    const paths = new Set([...this.#names.keys(), ...this.#durableNames.keys()]);
    for (const path of paths) {
      const durable = this.#durableNames.get(path);
      const present = this.#names.get(path);
      const inode = durable === present ? durable : this.#random() < 0.5 ? durable : present;
      if (inode) survivors.set(path, inode);
    }
    // A rename is one step: a file has one of its names.
    const seen = new Map<Inode, string>();
    for (const [path, inode] of survivors) {
      const other = seen.get(inode);
      if (other === undefined) seen.set(inode, path);
      else survivors.delete(this.#random() < 0.5 ? path : other);
    }
    // And a file that was durable under a name that was to be replaced does not vanish.
    for (const [path, inode] of this.#durableNames) {
      const stillNamed = [...survivors.values()].includes(inode);
      const removedOnPurpose = ![...this.#names.values()].includes(inode);
      if (!stillNamed && !removedOnPurpose && !survivors.has(path)) survivors.set(path, inode);
    }
    for (const dir of this.#dirs) {
      if (this.#durableDirs.has(dir) || this.#random() < 0.5) continue;
      this.#dirs.delete(dir);
      for (const path of survivors.keys()) if (dirname(path) === dir) survivors.delete(path);
    }
    this.#durableDirs = new Set(this.#dirs);
    for (const inode of new Set(survivors.values())) inode.crash(this.#random);
    this.#names = new Map(survivors);
    this.#durableNames = new Map(survivors);
  }

  paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  get usedBytes(): number {
    return [...this.#names.values()].reduce((sum, inode) => sum + inode.content.byteLength, 0);
  }

  bytes(path: string): Buffer {
    return this.#names.get(path)!.content;
  }

  /** Changes a file behind everybody's back. */
  replace(path: string, content: Buffer): void {
    const inode = new Inode();
    inode.content = Buffer.from(content);
    inode.durable = inode.content;
    this.#names.set(path, inode);
    this.#durableNames.set(path, inode);
  }

  remove(path: string): void {
    this.#names.delete(path);
    this.#durableNames.delete(path);
  }

  fileSystem(): FileSystem {
    const life = this.#life;
    const alive = (path: string) => {
      if (life !== this.#life || this.#writesUntilPowerCut <= 0) throw fault('EIO', path);
    };
    const check = (operation: string, path: string) => {
      this.#writesUntilPowerCut--;
      alive(path);
      this.beforeWrite?.(operation, path);
    };
    const disk = this;
    return {
      async open(path, mode): Promise<File> {
        alive(path);
        let inode = disk.#names.get(path);
        if (mode === 'create') {
          check('create', path);
          if (inode) throw fault('EEXIST', path);
          inode = new Inode();
          disk.#names.set(path, inode);
        } else disk.beforeOpen?.(path);
        if (!inode) throw fault('ENOENT', path);
        const file = inode;
        return {
          async read(into, at) {
            alive(path);
            disk.beforeRead?.(path, at, into.byteLength);
            const chunk = file.content.subarray(at, at + into.byteLength);
            chunk.copy(into);
            return chunk.byteLength;
          },
          async write(bytes, at) {
            check('write', path);
            if (disk.usedBytes + bytes.byteLength > disk.capacityBytes) {
              file.write(bytes.subarray(0, Math.floor(bytes.byteLength / 2)), at);
              throw fault('ENOSPC', path);
            }
            file.write(bytes, at);
          },
          async truncate(length) {
            check('truncate', path);
            file.truncate(length);
          },
          async sync() {
            check('sync', path);
            file.sync();
          },
          async size() {
            return file.content.byteLength;
          },
          async isAt(name) {
            return disk.#names.get(name) === file;
          },
          async close() {},
        };
      },
      async rename(from, to) {
        check('rename', from);
        const inode = disk.#names.get(from);
        if (!inode) throw fault('ENOENT', from);
        disk.#names.delete(from);
        disk.#names.set(to, inode);
      },
      async unlink(path) {
        check('unlink', path);
        if (!disk.#names.delete(path)) throw fault('ENOENT', path);
      },
      async list(dir) {
        alive(dir);
        disk.beforeOpen?.(dir);
        return [...disk.#names.keys()].filter((path) => dirname(path) === dir).map((path) => basename(path));
      },
      async mkdir(dir) {
        if (!disk.#dirs.has(dir)) check('mkdir', dir);
        disk.#dirs.add(dir);
      },
      async syncDir(dir) {
        check('syncDir', dir);
        disk.beforeOpen?.(dir);
        for (const child of disk.#dirs) if (dirname(child) === dir) disk.#durableDirs.add(child);
        for (const path of new Set([...disk.#names.keys(), ...disk.#durableNames.keys()])) {
          if (dirname(path) !== dir) continue;
          const inode = disk.#names.get(path);
          if (inode) disk.#durableNames.set(path, inode);
          else disk.#durableNames.delete(path);
        }
      },
      async freeBytes() {
        return disk.capacityBytes - disk.usedBytes;
      },
      async sha256(path, start, end) {
        alive(path);
        disk.beforeOpen?.(path);
        disk.beforeRead?.(path, start, end - start);
        const inode = disk.#names.get(path);
        if (!inode) throw fault('ENOENT', path);
        return createHash('sha256').update(inode.content.subarray(start, end)).digest();
      },
      async close() {},
    };
  }
}

class Inode {
  content: Buffer = Buffer.alloc(0);
  durable: Buffer = Buffer.alloc(0);
  #pending: ((content: Buffer) => Buffer)[] = [];

  write(bytes: Buffer, at: number): void {
    const copy = Buffer.from(bytes);
    this.#apply((content) => {
      const grown = Buffer.alloc(Math.max(content.byteLength, at + copy.byteLength));
      content.copy(grown);
      copy.copy(grown, at);
      return grown;
    });
  }

  truncate(length: number): void {
    this.#apply((content) => {
      const cut = Buffer.alloc(length);
      content.copy(cut);
      return cut;
    });
  }

  sync(): void {
    this.durable = this.content;
    this.#pending = [];
  }

  /** Any of the unsynced writes may be there or not; the pages of each, too. */
  crash(random: () => number): void {
    let content = this.durable;
    for (const write of this.#pending) {
      const after = write(content);
      if (random() < 0.5) continue;
      if (random() < 0.5) content = after;
      else content = random() < 0.5 ? tornAt(random, content, after) : tornInside(random, content, after);
    }
    this.content = content;
    this.durable = content;
    this.#pending = [];
  }

  #apply(write: (content: Buffer) => Buffer): void {
    this.content = write(this.content);
    this.#pending.push(write);
  }
}

/** What was written up to a place, and behind it what was there before. */
function tornAt(random: () => number, before: Buffer, after: Buffer): Buffer {
  const from = Math.floor(random() * after.byteLength);
  const torn = Buffer.alloc(after.byteLength);
  before.copy(torn);
  after.copy(torn, 0, 0, from);
  return torn;
}

/** Pages go to the disk in any order: some in the midst of what was written are as they were before. */
function tornInside(random: () => number, before: Buffer, after: Buffer): Buffer {
  const pages = Math.ceil(after.byteLength / PAGE_BYTES);
  const from = Math.floor(random() * pages) * PAGE_BYTES;
  const to = Math.min(after.byteLength, from + Math.ceil((random() * pages) / 4) * PAGE_BYTES);
  const torn = Buffer.from(after);
  torn.fill(0, from, to);
  before.subarray(from, to).copy(torn, from);
  return torn;
}

function fault(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}
