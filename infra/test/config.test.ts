import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readConfig, workspaceVersion } from '../lib/config';
import { CERTIFICATE, context } from './example';

test('a certificate is all that has to be said', () => {
  const config = readConfig(context({}));
  assert.equal(config.certificateArn, CERTIFICATE);
  assert.equal(config.imageTag, workspaceVersion());
  assert.deepEqual(config.peers, ['0.0.0.0/0']);
  assert.deepEqual([config.tableName, config.recordingsBucket, config.jwtIssuer], [undefined, undefined, undefined]);
});

test('every fault is reported at once, with the name of what is wrong', () => {
  const wrong = {
    certificateArn: 'mine',
    peers: '10.0.0.0/8,everybody',
    assistPorts: '443,0',
    architecture: 'riscv',
    cpu: '1000',
    tasksMin: 3,
    tasksMax: 2,
    streamsPerTask: 2500,
    quietPeriod: 'soon',
  };
  assert.throws(() => readConfig(context(wrong)), (error: Error) => {
    const named = ['certificateArn', 'peers', 'assistPorts', 'architecture', 'cpu', 'tasksMax', 'streamsPerTask'];
    for (const key of [...named, 'quietPeriod']) {
      assert.match(error.message, new RegExp(`\\n  ${key} must`), key);
    }
    return true;
  });
});

test('memory has to be one that Fargate has for the CPU', () => {
  assert.throws(() => readConfig(context({ cpu: 1024, memoryMib: 16_384 })), /memoryMib must be from 2048 to 8192/);
  assert.equal(readConfig(context({ cpu: '2048', memoryMib: '16384' })).memoryMib, 16_384);
});
