// One page with everything that is measured. A metric that is added to telemetry.rs and not here fails a test.

import { Duration, aws_cloudwatch as cloudwatch } from 'aws-cdk-lib';
import { Construct } from 'constructs';

import { LANES, UPLINKS } from './assistance';
import { NAMESPACE, metricName, shimMetric, shimMetricOf } from './telemetry';

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

/** Of help for the agent, the same. */
const ASSISTANCE_WIDGETS: typeof SHIM_WIDGETS = [
  ['Suggestions', 'Sum', ['SUGGESTIONS']],
  ['Popups, insight cards', 'Sum', ['POPUPS', 'INSIGHTS']],
  ['From suggestion to frame, s: 99 of 100', 'p99', ['SUGGESTION_LATENCY_SECONDS']],
  ['From frame to acknowledgement, s: 99 of 100', 'p99', ['SUGGESTION_ACK_SECONDS']],
  ['Outbox', 'Sum', ['OUTBOX_ENTRIES']],
  ['Dead letters of the outbox', 'Maximum', ['OUTBOX_DEAD']],
  ['Answers of CXone', 'Sum', ['CXONE_ANSWERS']],
  ['Endpoints of CXone that are held back', 'Maximum', ['CXONE_HELD_BACK']],
  ['Transcript fragments', 'Sum', ['FRAGMENTS', 'FRAGMENTS_DROPPED']],
  ['Searches', 'Sum', ['SEARCHES']],
  ['Connections to CXone that ended', 'Sum', ['UPLINK_BREAKS']],
  ['Interactions in memory: the fullest task', 'Maximum', ['INTERACTIONS_TRACKED']],
];

/** Of help for the agent, what is told apart: one line per value of the label. */
const APART_WIDGETS: readonly (readonly [title: string, constant: string, values: readonly string[]])[] = [
  ['Leases: 1 is held', 'LEASES_HELD', UPLINKS],
  ['Sockets to CXone: 1 is up', 'UPLINK_UP', UPLINKS],
  ['Credentials: 1 is refused', 'UPLINK_REFUSED', UPLINKS],
  ['Outbox: the oldest that should have left, s', 'OUTBOX_AGE_SECONDS', UPLINKS.flatMap((uplink) => LANES[uplink])],
];

/** The functions': one line per function and label, found when the page is looked at. */
const FUNCTION_WIDGETS: readonly (readonly [title: string, constant: string, labels: readonly string[]])[] = [
  ['Functions: answers', 'HTTP_ANSWERS', ['route', 'status']],
  ['Functions: wrong tokens', 'AUTH_REFUSALS', ['door', 'reason']],
  ['Utterances', 'UTTERANCES', ['outcome']],
  ['Suggestions, as functions judged them', 'SUGGESTIONS', ['outcome']],
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
    this.rows(dashboard, 'The shim', SHIM_WIDGETS.map(ofShim));
    const apart = APART_WIDGETS.map(([title, constant, values]) =>
      graph(title, values.map((value) => shimMetricOf(constant, 'Maximum', value, value))),
    );
    this.rows(dashboard, 'Assistance', [...ASSISTANCE_WIDGETS.map(ofShim), ...apart]);
    const ofFunctions = FUNCTION_WIDGETS.map(([title, constant, labels]) => graph(title, [search(constant, labels)]));
    this.rows(dashboard, 'The functions', ofFunctions);
  }

  /** A heading, and two widgets in a row below it. */
  private rows(dashboard: cloudwatch.Dashboard, heading: string, widgets: readonly cloudwatch.GraphWidget[]): void {
    dashboard.addWidgets(new cloudwatch.TextWidget({ markdown: `## ${heading}`, width: 2 * WIDTH, height: 1 }));
    for (let index = 0; index < widgets.length; index += 2) {
      dashboard.addWidgets(...widgets.slice(index, index + 2));
    }
  }
}

function ofShim([title, statistic, constants]: (typeof SHIM_WIDGETS)[number]): cloudwatch.GraphWidget {
  return graph(title, constants.map((constant) => shimMetric(constant, statistic, metricName(constant))));
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
