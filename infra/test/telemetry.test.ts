import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TELEMETRY, metricName, parseTelemetry } from '../lib/telemetry';
import { only, synthesize } from './example';

test('names are read from the constants of telemetry.rs', () => {
  const source = '/// Doc.\npub const A_B: &str = "earpiece_a_b_total";\npub const LONG: &str =\n    "earpiece_long";';
  assert.deepEqual([...parseTelemetry(source)], [['A_B', 'earpiece_a_b_total'], ['LONG', 'earpiece_long']]);
});

test('a constant that cannot be read as a metric name is an error, and so are none', () => {
  const mixed = 'pub const A: &str = "earpiece_a";\npub const B: u32 = 1;\n';
  assert.throws(() => parseTelemetry(mixed), /2 constants.* 1 can/);
  assert.throws(() => parseTelemetry(''), /0 constants/);
});

test('a name that is not in telemetry.rs cannot be charted or watched', () => {
  assert.equal(metricName('STREAMS_LIVE'), 'earpiece_streams_live');
  assert.throws(() => metricName('STREAMS_DEAD'), /has no STREAMS_DEAD/);
});

test('everything that is measured is on the dashboard', () => {
  const dashboard = only(synthesize().findResources('AWS::CloudWatch::Dashboard'));
  const body = JSON.stringify(dashboard.Properties.DashboardBody);
  const missing = [...TELEMETRY.values()].filter((name) => !new RegExp(`${name}\\b`).test(body));
  assert.deepEqual(missing, []);
});

test('alarms watch only what is measured', () => {
  const measured = new Set(TELEMETRY.values());
  const alarms = Object.values(synthesize().findResources('AWS::CloudWatch::Alarm'));
  const watched = JSON.stringify(alarms).match(/earpiece_[a-z_]+/g) ?? [];
  assert.ok(watched.length >= 12, `${watched.length} of our metrics are watched`);
  assert.deepEqual(watched.filter((name) => !measured.has(name)), []);
});
