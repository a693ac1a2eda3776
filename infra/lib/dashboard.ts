// One page with everything that is measured. A metric that is added to telemetry.rs and not here fails a test.

import { Duration, aws_cloudwatch as cloudwatch } from 'aws-cdk-lib';
import { Construct } from 'constructs';

import { NAMESPACE, metricName, shimMetric } from './telemetry';

/** A widget takes half of the page's 24 columns. */
const WIDTH = 12;

/** The shim's: what each widget shows, by the constants of telemetry.rs, and how a minute is summed up. */
const SHIM_WIDGETS: readonly (readonly [title: string, statistic: string, constants: readonly string[]])[] = [
  ['Live streams: the fullest task', 'Maximum', ['STREAMS_LIVE']],
  ['Live streams: over the tasks', 'Average', ['STREAMS_LIVE']],
  ['Sockets', 'Sum', ['STREAM_OPENS', 'STREAM_REFUSALS', 'STREAM_CLOSES', 'STREAMS_DEGRADED']],
  ['Wrong tokens', 'Sum', ['AUTH_REFUSALS']],
  ['CONNECTED, s: 99 of 100', 'p99', ['ACK_LATENCY_SECONDS']],
  ['CONNECTED, s: half', 'p50', ['ACK_LATENCY_SECONDS']],
  ['Audio, bytes', 'Sum', ['AUDIO_BYTES']],
  ['Audio, frames', 'Sum', ['AUDIO_FRAMES']],
  ['Lost samples', 'Sum', ['SAMPLES_LOST']],
  ['Waiting samples', 'Average', ['RING_SAMPLES']],
  ['Segments', 'Sum', ['SEGMENTS', 'SEGMENTS_GIVEN_UP', 'SEGMENTS_UNREADABLE', 'CONTACTS_FINISHED']],
  ['Errors', 'Sum', ['STORE_ERRORS', 'SINK_ERRORS']],
  ['Assist app', 'Sum', ['APP_EVENTS', 'APP_EVENTS_DROPPED', 'APP_FRAMES_IGNORED']],
  ['New in CXone', 'Sum', ['UNKNOWN_FIELDS', 'UNKNOWN_PERSPECTIVES']],
  ['Pieces from API Gateway', 'Sum', ['INGEST_PIECES']],
  ['Streams that come in pieces', 'Average', ['INGEST_SESSIONS']],
  ['Pages that were not told, or gone', 'Sum', ['EVENTS_UNPUBLISHED', 'CONNECTIONS_PRUNED']],
  ['Tasks protected from scaling in', 'Average', ['SCALE_IN_PROTECTED']],
  ['TLS certificates read again', 'Sum', ['TLS_RELOADS']],
];

/** The functions': one line per function and label, found when the page is looked at. */
const FUNCTION_WIDGETS: readonly (readonly [title: string, constant: string, labels: readonly string[]])[] = [
  ['Functions: answers', 'HTTP_ANSWERS', ['route', 'status']],
  ['Functions: wrong tokens', 'AUTH_REFUSALS', ['door', 'reason']],
  ['Utterances', 'UTTERANCES', ['outcome']],
  ['Contact events', 'CONTACT_EVENTS', ['kind']],
  ['Tokens issued', 'TOKENS_ISSUED', []],
  ['API Gateway sockets', 'CONNECTION_MESSAGES', ['outcome']],
  ['Pages that were gone', 'CONNECTIONS_PRUNED', []],
];

/** The dashboard. */
export class Dashboard extends Construct {
  constructor(scope: Construct, id: string, alarms: readonly cloudwatch.Alarm[]) {
    super(scope, id);
    const dashboard = new cloudwatch.Dashboard(this, 'Dashboard', { defaultInterval: Duration.hours(3) });
    dashboard.addWidgets(new cloudwatch.AlarmStatusWidget({ title: 'Alarms', alarms: [...alarms], width: 2 * WIDTH }));
    const widgets = [
      ...SHIM_WIDGETS.map(([title, statistic, constants]) =>
        graph(title, constants.map((constant) => shimMetric(constant, statistic, metricName(constant)))),
      ),
      ...FUNCTION_WIDGETS.map(([title, constant, labels]) => graph(title, [search(constant, labels)])),
    ];
    for (let index = 0; index < widgets.length; index += 2) {
      dashboard.addWidgets(...widgets.slice(index, index + 2));
    }
  }
}

function graph(title: string, left: cloudwatch.IMetric[]): cloudwatch.GraphWidget {
  return new cloudwatch.GraphWidget({ title, left, width: WIDTH, leftYAxis: { min: 0 } });
}

function search(constant: string, labels: readonly string[]): cloudwatch.MathExpression {
  const schema = [NAMESPACE, 'Service', ...labels].join(',');
  return new cloudwatch.MathExpression({
    expression: `SEARCH('{${schema}} MetricName="${metricName(constant)}"', 'Sum', 60)`,
    usingMetrics: {},
    label: '',
    period: Duration.minutes(1),
  });
}
