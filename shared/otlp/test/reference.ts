import { create, createFileRegistry, type DescMessage, type Registry } from '@bufbuild/protobuf';
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from '@bufbuild/protobuf/wkt';
import { jsonName, MESSAGES, SIGNALS, type Signal } from '../src/index.ts';

/** The OTLP messages for @bufbuild/protobuf, the parser that tests judge by. */

const TYPES: Record<string, Type> = {
  string: Type.STRING,
  bytes: Type.BYTES,
  id: Type.BYTES,
  bool: Type.BOOL,
  enum: Type.INT32, // open enums are int32 on the wire
  uint32: Type.UINT32,
  sint32: Type.SINT32,
  int64: Type.INT64,
  uint64: Type.UINT64,
  fixed32: Type.FIXED32,
  fixed64: Type.FIXED64,
  sfixed64: Type.SFIXED64,
  double: Type.DOUBLE,
};

const registry: Registry = createFileRegistry(
  create(FileDescriptorSetSchema, {
    file: [
      create(FileDescriptorProtoSchema, {
        name: 'otlp.proto',
        package: 'otlp',
        syntax: 'proto3',
        messageType: MESSAGES.map((message) => {
          const oneofs: string[] = [];
          const oneofIndex = (name: string) => {
            if (!oneofs.includes(name)) oneofs.push(name);
            return oneofs.indexOf(name);
          };
          const field = message.fields.map((f) => ({
            name: f.name,
            number: f.number,
            jsonName: jsonName(f.name),
            label: f.repeated ? Label.REPEATED : Label.OPTIONAL,
            type: f.child < 0 ? TYPES[f.type]! : Type.MESSAGE,
            ...(f.child < 0 ? {} : { typeName: `.otlp.${f.type}` }),
            // `optional` is a oneof of one.
            ...(f.presence ? { oneofIndex: oneofIndex(f.oneof ?? `_${f.name}`) } : {}),
          }));
          return { name: message.name, field, oneofDecl: oneofs.map((name) => ({ name })) };
        }),
      }),
    ],
  }),
);

function referenceMessage(name: string): DescMessage {
  const found = registry.getMessage(`otlp.${name}`);
  if (!found) throw new Error(`reference: there is no ${name}`);
  return found;
}

export function referenceRequest(signal: Exclude<Signal, 'profiles'>): DescMessage {
  return referenceMessage(MESSAGES[SIGNALS[signal].request!]!.name);
}
