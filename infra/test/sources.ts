// What templates are compared with: the Rust sources and the serverless template.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { parse } from 'yaml';

import { REPOSITORY_ROOT, declaredSettings } from '../lib/settings';

/** A file of the repository. */
export function read(...path: string[]): string {
  return readFileSync(join(REPOSITORY_ROOT, ...path), 'utf8');
}

/** The names in a folder of the repository. */
export function list(...path: string[]): string[] {
  return readdirSync(join(REPOSITORY_ROOT, ...path)).sort();
}

/** The serverless template. CloudFormation's short forms (`!Ref`, `!Sub`, …) become `{ Ref: … }`, `{ Sub: … }`, …. */
export function serverlessTemplate(): Record<string, any> {
  const forms = ['Ref', 'Sub', 'GetAtt', 'If', 'Not', 'Equals', 'Or'];
  const customTags = forms.flatMap((form) => [
    { tag: `!${form}`, resolve: (value: string) => ({ [form]: value }) },
    { tag: `!${form}`, collection: 'seq' as const, resolve: (value: any) => ({ [form]: value.toJSON() }) },
  ]);
  return parse(read('template.yaml'), { customTags });
}

/** Every setting that a Rust source declares: the names of environment variables. */
export function allSettings(): Set<string> {
  const crates = ['functions', 'shim', 'crates/access', 'crates/cxone', 'crates/uplink'];
  return new Set(declaredSettings(...crates.map((path) => `${path}/src/settings.rs`)).map(({ name }) => name));
}
