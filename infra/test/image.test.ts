import assert from 'node:assert/strict';
import { test } from 'node:test';

import { workspaceVersion } from '../lib/config';
import { read } from './sources';

const dockerfile = read('infra', 'shim.Dockerfile');
const lines = dockerfile.replace(/\\\n\s*/g, '').split('\n').filter((line) => line !== '' && !line.startsWith('#'));

test('the image is built with the toolchain of the repository', () => {
  const channel = /channel = "([^"]+)"/.exec(read('rust-toolchain.toml'))?.[1];
  assert.ok(lines.includes(`FROM rust:${channel}-bookworm AS build`));
  assert.ok(lines.includes(`ENV RUSTUP_TOOLCHAIN=${channel}`));
});

test('the image says the version that the stack asks for', () => {
  assert.match(dockerfile, new RegExp(`earpiece-shim:${workspaceVersion().replaceAll('.', '\\.')} \\.$`, 'm'));
});

test('what is built is what the workspace has', () => {
  assert.match(dockerfile, /cargo build --locked --release --package earpiece-shim --bin earpiece-shim/);
  assert.match(read('shim', 'Cargo.toml'), /\[\[bin\]\]\nname = "earpiece-shim"/);
});

test('every member of the workspace is in the context of the build', () => {
  const kept = read('infra', 'shim.Dockerfile.dockerignore').match(/^!.+$/gm)!.map((line) => line.slice(1));
  const members = /members = \[([^\]]+)\]/.exec(read('Cargo.toml'))![1]!.match(/"([^"]+)"/g)!;
  for (const member of members.map((quoted) => quoted.slice(1, -1).split('/')[0]!)) {
    assert.ok(kept.some((path) => path === member || path === `${member}/Cargo.toml`), member);
  }
});

test('nothing runs as root, through a shell or from a moving tag', () => {
  assert.equal(lines.filter((line) => line.startsWith('USER ')).at(-1), 'USER 65532:65532');
  assert.equal(lines.at(-1), 'ENTRYPOINT ["/earpiece-shim"]');
  for (const from of lines.filter((line) => line.startsWith('FROM '))) {
    assert.match(from, /^FROM [\w./-]+:(?!latest)[\w.-]+( AS \w+)?$/);
  }
});
