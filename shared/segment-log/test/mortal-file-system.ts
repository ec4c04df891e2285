import { type File, type FileSystem, NodeFileSystem } from '../src/file-system.ts';

/** The disk of this machine, as a process has it that can be killed: its files close and nothing more is written. */
export class MortalFileSystem extends NodeFileSystem implements FileSystem {
  readonly #open = new Set<File>();

  override async open(path: string, mode: 'create' | 'read' | 'write'): Promise<File> {
    const file = await super.open(path, mode);
    const { close } = file;
    this.#open.add(file);
    file.close = async () => {
      if (this.#open.delete(file)) await close.call(file);
    };
    return file;
  }

  /** Without a goodbye: what was not written is not. */
  async kill(): Promise<void> {
    for (const file of [...this.#open]) await file.close();
    await this.close();
  }
}
