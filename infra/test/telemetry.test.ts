import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TELEMETRY, TOLD_APART, metricName, parseTelemetry, shimMetric, shimMetricOf } from '../lib/telemetry';
import { ASSISTANCE, only, synthesize } from './example';
import { read } from './sources';

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

test('what the shim tells apart by a label is asked for by that label, and nothing else is', () => {
  const [, list] = /const TOLD_APART: [^=]+=\s*\[([^\]]+)\]/.exec(read('shim', 'src', 'emf.rs'))!;
  const told = [...list!.matchAll(/names::(\w+)/g)].map(([, constant]) => constant!);
  assert.deepEqual(Object.keys(TOLD_APART).sort(), told.sort());
  const uplink = read('crates', 'uplink', 'src', 'metrics.rs');
  for (const [constant, label] of Object.entries(TOLD_APART)) {
    assert.match(uplink, new RegExp(`names::${constant}, "[^"]+"(?:, "${label}"\\)|[^;]+;[^;]+&\\["${label}"\\])`));
  }
  assert.throws(() => shimMetric('LEASES_HELD', 'Sum'), /told apart by its lease/);
  assert.throws(() => shimMetricOf('STREAMS_LIVE', 'Sum', 'x'), /not told apart/);
});

test('alarms watch only what is measured', () => {
  const measured = new Set(TELEMETRY.values());
  const alarms = Object.values(synthesize(ASSISTANCE).findResources('AWS::CloudWatch::Alarm'));
  const watched = JSON.stringify(alarms).match(/earpiece_[a-z_]+/g) ?? [];
  assert.ok(watched.length >= 12, `${watched.length} of our metrics are watched`);
  assert.deepEqual(watched.filter((name) => !measured.has(name)), []);
});
