// The names of everything that is measured, read from the one place where they stand: crates/core/src/telemetry.rs.
// Whoever asks for a name that is not there (any more) gets an error at synthesis, not an alarm that never fires.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Duration, aws_cloudwatch as cloudwatch } from 'aws-cdk-lib';

import { REPOSITORY_ROOT } from './settings';

/** CloudWatch's namespace of all our metrics. */
export const NAMESPACE = 'Earpiece';

/** The `Service` of the shim's metrics; those of a function have its name. */
export const SHIM = 'shim';

const SOURCE = join(REPOSITORY_ROOT, 'crates', 'core', 'src', 'telemetry.rs');

/** The metric names by their constants, as `STREAMS_LIVE` → `earpiece_streams_live`. */
export function parseTelemetry(source: string): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const [, constant, name] of source.matchAll(/^pub const ([A-Z0-9_]+): &str =\s+"(earpiece_[a-z0-9_]+)";$/gm)) {
    names.set(constant!, name!);
  }
  const declared = source.match(/^pub const /gm)?.length ?? 0;
  if (names.size === 0 || names.size !== declared) {
    throw new Error(`telemetry.rs declares ${declared} constants, of which ${names.size} can be read as metric names`);
  }
  return names;
}

/** Every metric name of this repository, by its constant. */
export const TELEMETRY = parseTelemetry(readFileSync(SOURCE, 'utf8'));

/** The metric of a constant. */
export function metricName(constant: string): string {
  const name = TELEMETRY.get(constant);
  if (name === undefined) {
    throw new Error(`crates/core/src/telemetry.rs has no ${constant}`);
  }
  return name;
}

/** Metrics of the shim that have a label as their second dimension: `TOLD_APART` of shim/src/emf.rs. */
export const TOLD_APART: Readonly<Record<string, string>> = {
  OUTBOX_AGE_SECONDS: 'lane',
  LEASES_HELD: 'lease',
  UPLINK_UP: 'uplink',
  UPLINK_REFUSED: 'uplink',
};

/** A metric of the shim, over all its tasks. */
export function shimMetric(constant: string, statistic: string, label?: string, minutes = 1): cloudwatch.Metric {
  if (constant in TOLD_APART) {
    throw new Error(`${constant} is told apart by its ${TOLD_APART[constant]}`);
  }
  return metric(constant, statistic, {}, minutes, label);
}

/** One value of what a metric is told apart by, over all tasks. */
export function shimMetricOf(constant: string, statistic: string, value: string, label?: string): cloudwatch.Metric {
  const dimension = TOLD_APART[constant];
  if (dimension === undefined) {
    throw new Error(`${constant} is not told apart by a label`);
  }
  return metric(constant, statistic, { [dimension]: value }, 1, label);
}

function metric(
  constant: string,
  statistic: string,
  dimensions: Record<string, string>,
  minutes: number,
  label?: string,
): cloudwatch.Metric {
  return new cloudwatch.Metric({
    namespace: NAMESPACE,
    metricName: metricName(constant),
    dimensionsMap: { Service: SHIM, ...dimensions },
    statistic,
    period: Duration.minutes(minutes),
    ...(label === undefined ? {} : { label }),
  });
}
