import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { parse } from 'yaml';

import { REPOSITORY_ROOT, readConfig } from '../lib/config';
import { context } from './example';
import { list, read, serverlessTemplate } from './sources';

const PAGES = ['docs/deploy.md', 'docs/troubleshooting.md', 'infra/studio/README.md'];

/** The code blocks of a page that are in this language. */
function blocks(page: string, language: string): string[] {
  return [...read(page).matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, 'gm'))].map(([, block]) => block!);
}

test('parameters that the deployment page gives are parameters of the template', () => {
  const { Parameters } = serverlessTemplate();
  const given = blocks('docs/deploy.md', 'yaml').flatMap((block) => Object.keys(parse(block)));
  assert.ok(given.length >= 8);
  assert.deepEqual(given.filter((name) => !(name in Parameters)), []);
});

test('contexts that the deployment page gives are read', () => {
  const asked = new Set<string>();
  readConfig((key) => {
    asked.add(key);
    return context({})(key);
  });
  const given = [...read('docs/deploy.md').matchAll(/--context (\w+)=/g)].map(([, key]) => key!);
  assert.ok(given.length >= 6);
  assert.deepEqual(given.filter((key) => !asked.has(key)), []);
});

test('every link to a page of this repository leads somewhere, headings included', () => {
  for (const page of PAGES) {
    for (const [, target, , heading] of read(page).matchAll(/\]\((?!https?:)([^)#]*)(#([^)]+))?\)/g)) {
      const path = target === '' ? page : join(dirname(page), target!);
      assert.ok(existsSync(join(REPOSITORY_ROOT, path)), `${page}: ${path}`);
      if (heading !== undefined) {
        const headings = [...read(path).matchAll(/^#+ (.+)$/gm)].map(([, text]) => slug(text!));
        assert.ok(headings.includes(heading), `${page}: ${path}#${heading}`);
      }
    }
  }
});

/** The anchor that a heading gets on GitHub. */
function slug(heading: string): string {
  return heading.toLowerCase().replace(/[^\w\- ]/g, '').replaceAll(' ', '-');
}

test('snippets and their page go together, and hold no secret', () => {
  const page = read('infra', 'studio', 'README.md');
  for (const name of list('infra', 'studio').filter((name) => name.endsWith('.snippet'))) {
    assert.ok(page.includes(`(${name})`), name);
    const secrets = [...read('infra', 'studio', name).matchAll(/(?:secret|password)=([^&"]*)/gi)].map(([, value]) => value!);
    assert.ok(secrets.every((value) => /^\{\w+\}$/.test(value)), name);
  }
});

test('event kinds of the snippet are those that the handler takes', () => {
  const source = read('crates', 'core', 'src', 'contact', 'event.rs');
  for (const kind of ['start', 'hold', 'resume', 'end']) {
    assert.match(read('infra', 'studio', 'README.md'), new RegExp(`\\| \`${kind}\` \\|`));
    assert.ok(source.includes(`"${kind}"`), kind);
  }
});
