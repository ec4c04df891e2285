import { FieldCursor, WireWriter } from '@nrdot/otlp';
import { CLASSES, type PriorityClass } from '@nrdot/queue/priority-class';

interface Part {
  out: WireWriter;
  /** Handles of the messages that are open in it, by level. */
  opened: number[];
}

interface Level {
  tag: number;
  /** Fields that every part repeats. */
  shared: Buffer;
}

const LENGTH_DELIMITED = 2;
/** A part's writer begins with room for all that follows, up to so much: growing takes a fifth of the time of a usual request. */
const HINT_MAX_BYTES = 256 * 1024;
const NOTHING = Buffer.alloc(0);

/**
 * The parts of a request, one for each class, written as the request is read. Nothing is kept of an item, since there may be half
 * a million in 1 MiB, and adjacent ones of a class are copied together.
 */
export class Parts {
  readonly #body: Buffer;
  readonly #parts = new Map<PriorityClass, Part>();
  /** Messages around the next fields, from the outermost on. A part opens them when it gets the first field within. */
  readonly #levels: Level[] = [];
  /** The range to copy, and its class. */
  #class: PriorityClass = 'normal';
  #from = 0;
  #to = 0;

  constructor(body: Buffer) {
    this.#body = body;
  }

  /** Enters a message. @param divided number of the field by which it is divided; the others are repeated in each part */
  enter(number: number, { start, end }: FieldCursor, divided: number): void {
    this.#copy();
    this.#levels.push({
      tag: number * 8 + LENGTH_DELIMITED,
      shared: otherFields(this.#body, start, end, divided),
    });
  }

  leave(): void {
    this.#copy();
    this.#levels.pop();
    for (const { out, opened } of this.#parts.values())
      if (opened.length > this.#levels.length) out.close(opened.pop()!);
  }

  /** Adds a field of the current message. */
  add(priorityClass: PriorityClass, { tagStart, end }: FieldCursor): void {
    if (priorityClass !== this.#class || tagStart !== this.#to) {
      this.#copy();
      this.#class = priorityClass;
      this.#from = tagStart;
    }
    this.#to = end;
  }

  /** The parts in order of class. The first has the request's unknown fields, so that they are kept once. */
  end(divided: number): { class: PriorityClass; body: Buffer }[] {
    this.#copy();
    let others = otherFields(this.#body, 0, this.#body.byteLength, divided);
    return CLASSES.flatMap((c) => {
      const part = this.#parts.get(c);
      if (!part) return [];
      const body = Buffer.concat([part.out.finish(), others]); // the writer's buffer may be twice as large
      others = NOTHING;
      return [{ class: c, body }];
    });
  }

  #copy(): void {
    const [from, to] = [this.#from, this.#to];
    if (from === to) return;
    this.#from = to;
    let part = this.#parts.get(this.#class);
    if (part === undefined) {
      part = { out: new WireWriter(Math.min(this.#body.byteLength - from, HINT_MAX_BYTES)), opened: [] };
      this.#parts.set(this.#class, part);
    }
    const { out, opened } = part;
    while (opened.length < this.#levels.length) {
      const { tag, shared } = this.#levels[opened.length]!;
      out.varint(tag);
      opened.push(out.open());
      out.raw(shared, 0, shared.byteLength);
    }
    out.raw(this.#body, from, to);
  }
}

/** The fields of a message except those of one number. */
function otherFields(body: Buffer, start: number, end: number, number: number): Buffer {
  let out: WireWriter | undefined;
  const cursor = new FieldCursor(body, start, end);
  while (cursor.next()) {
    if (cursor.number === number) continue;
    out ??= new WireWriter(0);
    out.raw(body, cursor.tagStart, cursor.end);
  }
  return out?.finish() ?? NOTHING;
}
