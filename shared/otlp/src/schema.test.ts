/** Our own messages are what walk, conversion and the tests' reference parser go by: a wrong number would be in all of them. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MESSAGES } from './schema.ts';

interface Published {
  number: number;
  name: string;
  type: string;
  repeated?: true;
  oneof?: string;
  optional?: true;
}

const published = JSON.parse(readFileSync(new URL('../test/descriptors.json', import.meta.url), 'utf8')) as {
  messages: Record<string, Published[]>;
  enums: Record<string, Record<string, number>>;
};

/** `Span.Event` is our `Event`: no two have the same last name. */
const shortName = (name: string) => name.slice(name.lastIndexOf('.') + 1);
const requests = Object.entries(published.messages).filter(([name]) => !/Response|PartialSuccess/.test(name));
/** What OTLP has and we pass on without looking inside, as any field that we do not know. */
const PASSED_ON = ['string_value_strindex', 'key_strindex'];

describe('the messages, compared with the published descriptors', () => {
  it('are complete, without extras', () => {
    expect(MESSAGES.map(({ name }) => name).sort()).toEqual(requests.map(([name]) => shortName(name)).sort());
  });

  it.each(requests.map(([name, fields]) => [shortName(name), fields] as const))('%s', (name, fields) => {
    const ours = MESSAGES.find((message) => message.name === name)!.fields.map(
      ({ number, name, type, repeated, oneof, presence, values }) => ({
        number,
        name,
        type: type === 'id' ? 'bytes' : type,
        repeated,
        oneof,
        optional: presence && oneof === undefined,
        values,
      }),
    );
    const theirs = fields
      .filter((field) => !PASSED_ON.includes(field.name))
      .map(({ number, name, type, repeated = false, oneof, optional = false }) => ({
        number,
        name,
        type: type in published.enums ? 'enum' : shortName(type),
        repeated,
        oneof,
        optional,
        values: published.enums[type],
      }));
    expect(ours).toEqual(theirs);
  });
});
