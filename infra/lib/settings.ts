// The settings that programs read, from the sources that declare them: what is set here and not read there is an error
// at synthesis, not a value that does nothing.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The root of the repository. */
export const REPOSITORY_ROOT = join(__dirname, '..', '..');

/** A setting: the name of an environment variable. */
export interface Setting {
  readonly name: string;
  readonly isSecret: boolean;
}

/** Every setting that these Rust sources declare. */
export function declaredSettings(...paths: readonly string[]): Setting[] {
  return paths.flatMap((path) => {
    const source = readFileSync(join(REPOSITORY_ROOT, path), 'utf8');
    const declared = [...source.matchAll(/Setting::(new|secret)\(\s*"(\w+)"/g)];
    if (declared.length === 0) {
      throw new Error(`${path} declares no setting`);
    }
    return declared.map(([, kind, name]) => ({ name: name!, isSecret: kind === 'secret' }));
  });
}
