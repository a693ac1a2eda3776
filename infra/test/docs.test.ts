import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { parse } from 'yaml';

import { readConfig } from '../lib/config';
import { REPOSITORY_ROOT } from '../lib/settings';
import { ASSISTANCE, context, synthesize } from './example';
import { list, read, serverlessTemplate } from './sources';

const PAGES = ['README.md', 'infra/studio/README.md', ...list('docs').map((page) => `docs/${page}`)];

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
    return context(ASSISTANCE)(key);
  });
  const given = [...read('docs/deploy.md').matchAll(/--context (\w+)=/g)].map(([, key]) => key!);
  assert.ok(given.length >= 6);
  assert.deepEqual(given.filter((key) => !asked.has(key)), []);
});

test('what the deployment page looks up is put out by the stack that it asks', () => {
  const shim = synthesize(ASSISTANCE).toJSON().Outputs;
  const outputs: Record<string, object> = { earpiece: serverlessTemplate().Outputs, 'earpiece-shim': shim };
  const asked = [...read('docs/deploy.md').matchAll(/\$\(output ([\w-]+) (\w+)\)/g)];
  assert.ok(asked.length >= 6);
  for (const [, stack, name] of asked) {
    assert.ok(name! in (outputs[stack!] ?? {}), `${stack} ${name}`);
  }
  assert.equal(readConfig(context({})).stackName, 'earpiece-shim');
  assert.match(read('samconfig.toml'), /\[default\.global\.parameters\]\nstack_name = "earpiece"\n/);
});

test('a shell variable on the deployment page has been given a value by then', () => {
  const shell = blocks('docs/deploy.md', 'sh').join('');
  // Of the shell; and of the function `output`, which takes two arguments.
  const known = new Set(['PATH', 'PWD', '1', '2']);
  const words = /(?<![\w$-])(?<assigned>[A-Z_]+)=|read -rs (?<asked>\w+)|\$\{?(?<used>\w+)/g;
  for (const { groups } of shell.matchAll(words)) {
    const { assigned, asked, used } = groups!;
    if (used === undefined) {
      known.add((assigned ?? asked)!);
    } else {
      assert.ok(known.has(used), used);
    }
  }
});

test('a build is told what the deployment after it is told, or it is for another architecture', () => {
  const commands = blocks('docs/deploy.md', 'sh').join('').match(/sam (build|deploy)[^\n&]*/g) ?? [];
  const pairs = commands
    .map((command, index) => [command, commands[index + 1]])
    .filter(([command]) => command!.startsWith('sam build'));
  assert.ok(pairs.length >= 3);
  for (const [build, deploy] of pairs) {
    const told = /^sam build (--config-env local|--parameter-overrides file:\/\/parameters\.yaml) *$/.exec(build!)?.[1];
    assert.ok(told !== undefined && deploy?.startsWith(`sam deploy ${told}`), `${build}; ${deploy}`);
  }
});

test('a page of an agent connects to the stage that there is', () => {
  const { StageName } = serverlessTemplate().Resources.WebSocketStage.Properties;
  const stages = [...read('docs/websocket.md').matchAll(/execute-api\.[\w{}-]+\.amazonaws\.com\/([\w{}]+)/g)];
  assert.ok(stages.length >= 2);
  assert.deepEqual(stages.map(([, stage]) => stage).filter((stage) => stage !== StageName), []);
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

test('what an alarm refers to is a heading of the page on running', () => {
  const headings = new Set([...read('docs/operations.md').matchAll(/^#+ (.+)$/gm)].map(([, text]) => text!));
  const alarms = Object.values(synthesize(ASSISTANCE).findResources('AWS::CloudWatch::Alarm'));
  const referred = alarms.flatMap((alarm) => {
    const [, heading] = /See docs\/operations\.md, (.+)\.$/.exec(alarm.Properties.AlarmDescription) ?? [];
    return heading === undefined ? [] : [heading];
  });
  assert.ok(referred.length >= 12);
  assert.deepEqual(referred.filter((heading) => !headings.has(heading)), []);
});

test('snippets and their page go together, and hold no secret', () => {
  const page = read('infra', 'studio', 'README.md');
  for (const name of list('infra', 'studio').filter((name) => name.endsWith('.snippet'))) {
    assert.ok(page.includes(`(${name})`), name);
    const snippet = read('infra', 'studio', name);
    const secrets = [...snippet.matchAll(/(?:secret|password)=([^&"]*)/gi)].map(([, value]) => value!);
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
