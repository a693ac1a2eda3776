import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readConfig, workspaceVersion } from '../lib/config';
import { ASSISTANCE, CERTIFICATE, context } from './example';

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

test('without credentials for CXone nothing else may be said of it', () => {
  assert.equal(readConfig(context({})).assistance, undefined);
  const { cxoneCredentials: _, ...rest } = ASSISTANCE;
  assert.throws(() => readConfig(context({ ...rest, uplinks: 'popups' })), (error: Error) => {
    for (const key of [...Object.keys(rest), 'uplinks']) {
      assert.match(error.message, new RegExp(`\\n  ${key} must not be given without cxoneCredentials`), key);
    }
    return true;
  });
});

test('every fault of what is said of CXone is reported at once', () => {
  const wrong = {
    cxoneCredentials: 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:cxone',
    cxoneApi: 'http://api.nicecxone.com/v2',
    cxoneOrg: 'acme.cxone.com',
    cxoneBusNo: 'mine',
    uplinks: 'suggestions,telepathy',
    triggers: '{"name":',
    knowledge: 'articles',
    auditKeep: '1y',
    uplinkSettings: { EARPIECE_CXONE_CLIENT_SECRET: 'hunter2', EARPIECE_LEAS: '1s' },
  };
  assert.throws(() => readConfig(context(wrong)), (error: Error) => {
    for (const key of Object.keys(wrong)) {
      assert.match(error.message, new RegExp(`\\n  ${key} must`), key);
    }
    assert.match(error.message, /EARPIECE_CXONE_CLIENT_SECRET, EARPIECE_LEAS:/);
    assert.doesNotMatch(error.message, /hunter2/);
    return true;
  });
});

test('popups need the name that is in the address of their socket, unless the address is another', () => {
  const bare = { cxoneCredentials: 'earpiece/cxone' };
  assert.throws(() => readConfig(context(bare)), /cxoneOrg must be given/);
  assert.deepEqual(readConfig(context({ ...bare, cxoneOrg: 'acme' })).assistance?.uplinks, [
    'suggestions',
    'insights',
    'popups',
  ]);
  assert.deepEqual(readConfig(context({ ...bare, uplinks: 'insights,suggestions' })).assistance?.uplinks, [
    'suggestions',
    'insights',
  ]);
  const elsewhere = { EARPIECE_CXONE_INTERACTIONS_URL: 'wss://events.example.com/stream' };
  for (const uplinkSettings of [elsewhere, JSON.stringify(elsewhere)]) {
    assert.deepEqual(readConfig(context({ ...bare, uplinkSettings })).assistance?.more, elsewhere);
  }
});

test('triggers are an array, as JSON or as text of it, or none', () => {
  const triggers = (value: unknown) => readConfig(context({ ...ASSISTANCE, triggers: value })).assistance?.triggers;
  assert.equal(triggers('none'), 'none');
  assert.equal(triggers(undefined), undefined);
  assert.equal(triggers(ASSISTANCE.triggers), triggers(JSON.stringify(ASSISTANCE.triggers)));
  assert.throws(() => triggers({ name: 'upset' }), /triggers must be/);
  assert.throws(() => triggers(Array(1000).fill('x'.repeat(100))), /triggers must be/);
});

test('memory has to be one that Fargate has for the CPU', () => {
  assert.throws(() => readConfig(context({ cpu: 1024, memoryMib: 16_384 })), /memoryMib must be from 2048 to 8192/);
  assert.equal(readConfig(context({ cpu: '2048', memoryMib: '16384' })).memoryMib, 16_384);
});
