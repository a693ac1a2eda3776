// When somebody has to look, and at what. The thresholds are those of docs/operations.md, whose headings the
// descriptions name.

import { Duration, aws_cloudwatch as cloudwatch, aws_cloudwatch_actions as actions, aws_sns as sns } from 'aws-cdk-lib';
import { Construct } from 'constructs';

import { LANES, type Uplink } from './assistance';
import type { Config } from './config';
import type { ShimService } from './service';
import { shimMetric, shimMetricOf } from './telemetry';

const { ComparisonOperator, MathExpression, TreatMissingData } = cloudwatch;

/** Shares are taken of so much: of one minute with two calls, one is half. */
const SHARE_MINUTES = 5;

interface Watch {
  readonly id: string;
  readonly says: string;
  /** Where docs/operations.md has more. */
  readonly heading?: string;
  readonly metric: cloudwatch.IMetric;
  /** What is too much; or what is too little, which a metric that nobody tells is, too. */
  readonly limit: { readonly above: number } | { readonly below: number };
  /** In so many periods running: minutes, but for shares. */
  readonly periods: number;
}

/** All alarms of the shim. */
export class Alarms extends Construct {
  readonly all: cloudwatch.Alarm[] = [];

  constructor(scope: Construct, id: string, config: Config, shim: ShimService) {
    super(scope, id);
    const watches = [...losses(), ...troubles(), ...calls(config), ...tasks(shim), silence()];
    if (config.assistance !== undefined) {
      watches.push(...assistance(config.assistance.uplinks));
    }
    watches.forEach((watch) => this.watch(watch));
    if (config.alarmTopicArn !== undefined) {
      const action = new actions.SnsAction(sns.Topic.fromTopicArn(this, 'Topic', config.alarmTopicArn));
      this.all.forEach((alarm) => {
        alarm.addAlarmAction(action);
        alarm.addOkAction(action);
      });
    }
  }

  private watch({ id, says, heading, metric, limit, periods }: Watch): void {
    const more = heading === undefined ? 'docs/operations.md.' : `docs/operations.md, ${heading}.`;
    const judged =
      'above' in limit
        ? {
            threshold: limit.above,
            comparisonOperator: ComparisonOperator.GREATER_THAN_THRESHOLD,
            treatMissingData: TreatMissingData.NOT_BREACHING,
          }
        : {
            threshold: limit.below,
            comparisonOperator: ComparisonOperator.LESS_THAN_THRESHOLD,
            treatMissingData: TreatMissingData.BREACHING,
          };
    this.all.push(
      new cloudwatch.Alarm(this, id, {
        alarmDescription: `${says} See ${more}`,
        metric,
        evaluationPeriods: periods,
        ...judged,
      }),
    );
  }
}

/** No task has said anything: the one fault that no metric can tell. */
function silence(): Watch {
  return {
    id: 'Silence',
    says: 'No task of the shim tells its metrics.',
    heading: 'Calls do not come in',
    metric: shimMetric('STREAMS_LIVE', 'SampleCount'),
    limit: { below: 1 },
    periods: 5,
  };
}

/** What is lost stays lost: one is one too many. */
function losses(): Watch[] {
  const lost = (id: string, constant: string, says: string): Watch => ({
    id,
    says,
    metric: shimMetric(constant, 'Sum'),
    limit: { above: 0 },
    periods: 1,
  });
  return [
    lost('SamplesLost', 'SAMPLES_LOST', 'Audio was lost; the log line says to whom, the ledger where.'),
    lost('SegmentsGivenUp', 'SEGMENTS_GIVEN_UP', 'A segment of a recording could not be written.'),
    lost('SegmentsUnreadable', 'SEGMENTS_UNREADABLE', 'A segment of a recording could not be read.'),
    lost('AppEventsDropped', 'APP_EVENTS_DROPPED', 'The assist app says more than there is room for.'),
    lost('AppFramesIgnored', 'APP_FRAMES_IGNORED', 'The assist app sends what is no JSON object.'),
  ];
}

/** What heals by itself when it is short. */
function troubles(): Watch[] {
  const trouble = (id: string, constant: string, says: string): Watch => ({
    id,
    says,
    metric: shimMetric(constant, 'Sum'),
    limit: { above: 0 },
    periods: 5,
  });
  return [
    trouble('StoreErrors', 'STORE_ERRORS', 'The table fails or is slow.'),
    trouble('SinkErrors', 'SINK_ERRORS', 'Recordings or the assist app keep failing.'),
    trouble('UnknownPerspectives', 'UNKNOWN_PERSPECTIVES', 'CXone sends a perspective that no document names.'),
  ];
}

/** How calls fare. */
function calls(config: Config): Watch[] {
  const sum = (constant: string) => shimMetric(constant, 'Sum', undefined, SHARE_MINUTES);
  const share = (part: string, label: string) =>
    new MathExpression({
      expression: '100 * part / (opens + part)',
      usingMetrics: { part: sum(part), opens: sum('STREAM_OPENS') },
      label,
      period: Duration.minutes(SHARE_MINUTES),
    });
  return [
    {
      id: 'Full',
      says: 'A task nears the streams that it can take; scaling does not follow.',
      metric: shimMetric('STREAMS_LIVE', 'Maximum'),
      limit: { above: Math.floor(config.streamsMax * 0.9) },
      periods: 3,
    },
    {
      id: 'Refusals',
      says: 'More than one socket in ten is refused.',
      metric: share('STREAM_REFUSALS', 'refused, %'),
      limit: { above: 10 },
      periods: 2,
    },
    {
      id: 'Degraded',
      says: 'Calls are taken without the store.',
      metric: share('STREAMS_DEGRADED', 'degraded, %'),
      limit: { above: 1 },
      periods: 1,
    },
    {
      id: 'SlowAnswers',
      says: 'CONNECTED takes long: CXone gives up after a while.',
      metric: shimMetric('ACK_LATENCY_SECONDS', 'p99'),
      limit: { above: 0.25 },
      periods: 3,
    },
    {
      id: 'WrongTokens',
      says: 'Many tokens are refused: one has run out, or somebody guesses.',
      metric: shimMetric('AUTH_REFUSALS', 'Sum'),
      limit: { above: 20 },
      periods: 5,
    },
  ];
}

/** How the tasks fare. */
function tasks(shim: ShimService): Watch[] {
  return [
    {
      id: 'UnhealthyTasks',
      says: 'A task does not answer its health check.',
      metric: shim.targets.metrics.unHealthyHostCount({ statistic: 'Maximum', period: Duration.minutes(1) }),
      limit: { above: 0 },
      periods: 3,
    },
    {
      id: 'Memory',
      says: 'The tasks need more memory than was expected.',
      metric: shim.service.metricMemoryUtilization({ statistic: 'Maximum', period: Duration.minutes(1) }),
      limit: { above: 85 },
      periods: 5,
    },
    {
      id: 'Cpu',
      says: 'The tasks need more CPU than was expected.',
      metric: shim.service.metricCpuUtilization({ statistic: 'Maximum', period: Duration.minutes(1) }),
      limit: { above: 85 },
      periods: 10,
    },
  ];
}

/** How the way back to the agent fares. */
function assistance(uplinks: readonly Uplink[]): Watch[] {
  const named = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
  return [
    {
      id: 'CxoneRefuses',
      says: 'CXone refuses our credentials: nothing is sent to agents until somebody puts them right.',
      heading: 'CXone refuses the credentials',
      // The task that holds the lease tells; that of another socket may do so at other minutes.
      metric: new MathExpression({
        expression: 'MAX(FILL(METRICS(), 0))',
        usingMetrics: Object.fromEntries(
          uplinks.map((uplink) => [uplink, shimMetricOf('UPLINK_REFUSED', 'Maximum', uplink)]),
        ),
        label: 'refused',
        period: Duration.minutes(1),
      }),
      limit: { above: 0 },
      periods: 1,
    },
    {
      id: 'OutboxDeadLetters',
      says: 'Something for an agent or a webhook could not be delivered, and is kept.',
      heading: 'Dead letters of the outbox',
      metric: shimMetric('OUTBOX_DEAD', 'Maximum'),
      limit: { above: 0 },
      periods: 1,
    },
    ...uplinks.map((uplink): Watch => ({
      id: `LeaseFree${named(uplink)}`,
      says: `No task holds the lease of ${uplink}: a takeover takes 15 s.`,
      heading: 'A lease that nobody holds',
      // Each task tells once a minute whether it has it. Of two minutes running the holder may miss one, not both.
      metric: shimMetricOf('LEASES_HELD', 'Maximum', uplink),
      limit: { below: 1 },
      periods: 2,
    })),
    ...uplinks.map((uplink): Watch => ({
      id: `UplinkDown${named(uplink)}`,
      says: `The socket to CXone for ${uplink} does not come up.`,
      heading: 'A socket to CXone that is down',
      metric: shimMetricOf('UPLINK_UP', 'Maximum', uplink),
      limit: { below: 1 },
      periods: 5,
    })),
    ...uplinks.flatMap((uplink) => LANES[uplink]).map((lane): Watch => ({
      id: `OutboxAge${named(lane)}`,
      says: `What should have left in the lane ${lane} waits for more than a minute.`,
      heading: 'An outbox that does not empty',
      metric: shimMetricOf('OUTBOX_AGE_SECONDS', 'Maximum', lane),
      limit: { above: 60 },
      periods: 5,
    })),
  ];
}
