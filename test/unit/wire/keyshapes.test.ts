import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Field, keyShape, keyShapes, readFields, writeFields } from '../../../src/wire/keyshapes.ts';
import { Reader } from '../../../src/wire/reader.ts';
import { Writer } from '../../../src/wire/writer.ts';
import { addedKey } from './arbitraries.ts';
import { raw, str } from './build.ts';
import { expectWireError } from './thrown.ts';

/** Copied from the reference by hand: 's' string, 'm' mpint, 'b' byte; '!' marks what is secret. */
const reference: Record<string, { public: string; add: string; certificate: string }> = {
  'ssh-ed25519': { public: 's:pk', add: 's:pk !s:sk', certificate: 's:pk !s:sk' },
  'ecdsa-sha2-nistp256': { public: 's:curve s:q', add: 's:curve s:q !m:d', certificate: '!m:d' },
  'ecdsa-sha2-nistp384': { public: 's:curve s:q', add: 's:curve s:q !m:d', certificate: '!m:d' },
  'ecdsa-sha2-nistp521': { public: 's:curve s:q', add: 's:curve s:q !m:d', certificate: '!m:d' },
  'ssh-rsa': {
    public: 'm:e m:n',
    add: 'm:n m:e !m:d !m:iqmp !m:p !m:q',
    certificate: '!m:d !m:iqmp !m:p !m:q',
  },
  'ssh-mldsa44-ed25519@openssh.com': { public: 's:pk', add: 's:pk !s:sk', certificate: '!s:sk' },
  'sk-ssh-ed25519@openssh.com': {
    public: 's:pk s:application',
    add: 's:pk s:application b:flags !s:keyHandle s:reserved',
    certificate: 's:pk s:application b:flags !s:keyHandle s:reserved',
  },
  'sk-ecdsa-sha2-nistp256@openssh.com': {
    public: 's:curve s:q s:application',
    add: 's:curve s:q s:application b:flags !s:keyHandle s:reserved',
    certificate: 's:application b:flags !s:keyHandle s:reserved',
  },
};

const letter = { string: 's', mpint: 'm', u8: 'b' } as const;
const brief = (fields: readonly Field[]): string =>
  fields.map(({ name, kind, secret }) => `${secret ? '!' : ''}${letter[kind]}:${name}`).join(' ');

describe('the table', () => {
  it('has the types of the reference and no others', () => {
    expect(keyShapes.map(({ type }) => type).sort()).toEqual(Object.keys(reference).sort());
  });

  it.each(keyShapes.map((shape) => [shape.type, shape] as const))('has the fields of %s in order', (type, shape) => {
    expect({
      public: brief(shape.publicFields),
      add: brief(shape.addFields),
      certificate: brief(shape.addWithCertificateFields),
    }).toEqual(reference[type]);
    expect(shape.certificateType).toBe(
      type.endsWith('@openssh.com')
        ? type.replace('@openssh.com', '-cert-v01@openssh.com')
        : `${type}-cert-v01@openssh.com`,
    );
  });

  it('finds a shape by its plain and its certificate name', () => {
    for (const shape of keyShapes) {
      expect(keyShape(shape.type)).toEqual({ shape, certificate: false });
      expect(keyShape(shape.certificateType)).toEqual({ shape, certificate: true });
    }
  });

  it.each(['ssh-dss', 'ssh-ed448', 'rsa-sha2-256', 'ssh-rsa ', 'SSH-RSA', '', '__proto__', 'constructor', 'toString'])(
    'has no shape for %j',
    (name) => {
      expect(keyShape(name)).toBeUndefined();
    },
  );
});

const fields: readonly Field[] = [
  { name: 's', kind: 'string', secret: false },
  { name: 'm', kind: 'mpint', secret: true },
  { name: 'b', kind: 'u8', secret: false },
];

describe('fields', () => {
  it('reads a string as it is, an mpint as its magnitude, a u8 as one byte, all as views', () => {
    const input = raw(str('abc'), str(0, 0x80), 7);
    const values = readFields(new Reader(input), fields);
    expect(values).toEqual({ s: raw('abc'), m: raw(0x80), b: raw(7) });
    for (const value of Object.values(values)) expect(value.buffer).toBe(input.buffer);
  });

  it('is short at every cut and names the field', () => {
    const input = raw(str('abc'), str(0, 0x80), 7);
    for (let length = 0; length < input.length; length++)
      expectWireError(() => readFields(new Reader(input.subarray(0, length)), fields), 'short');
    expectWireError(() => readFields(new Reader(input.subarray(0, -1)), fields), 'short', 'b');
  });

  it('writes what the independent builder writes', () => {
    const writer = new Writer();
    writeFields(writer, fields, { s: raw('abc'), m: raw(0x80), b: raw(7) });
    expect(writer.finish()).toEqual(raw(str('abc'), str(0, 0x80), 7));
  });

  it('refuses to write where a value is missing, or a u8 is not one byte', () => {
    expectWireError(() => writeFields(new Writer(), fields, { s: raw(), b: raw(1) }), 'bad-value', 'm');
    for (const b of [raw(), raw(1, 2)])
      expectWireError(() => writeFields(new Writer(), fields, { s: raw(), m: raw(), b }), 'bad-value', 'b');
  });

  it('gives back what went in, for each shape', () => {
    fc.assert(
      fc.property(addedKey, ({ type, fields: values }) => {
        const known = keyShape(type);
        if (known === undefined) throw new Error(type);
        const list = known.certificate ? known.shape.addWithCertificateFields : known.shape.addFields;
        const writer = new Writer();
        writeFields(writer, list, values);
        const reader = new Reader(writer.finish());
        expect(readFields(reader, list)).toEqual(values);
        reader.end(type);
      }),
    );
  });
});
