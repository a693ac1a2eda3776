// When somebody has to look, and at what. The thresholds are those of docs/operations.md, whose headings the
// descriptions name.

import { Duration, aws_cloudwatch as cloudwatch, aws_cloudwatch_actions as actions, aws_sns as sns } from 'aws-cdk-lib';
import { Construct } from 'constructs';

import type { Config } from './config';
import type { ShimService } from './service';
import { shimMetric } from './telemetry';

const { ComparisonOperator, MathExpression, TreatMissingData } = cloudwatch;

/** Shares are taken of so much: of one minute with two calls, one is half. */
const SHARE_MINUTES = 5;

interface Watch {
  readonly id: string;
  readonly says: string;
  readonly metric: cloudwatch.IMetric;
  readonly above: number;
  /** In so many periods running: minutes, but for shares. */
  readonly periods: number;
}

/** All alarms of the shim. */
export class Alarms extends Construct {
  readonly all: cloudwatch.Alarm[] = [];

  constructor(scope: Construct, id: string, config: Config, shim: ShimService) {
    super(scope, id);
    const watches = [...losses(), ...troubles(), ...calls(config), ...tasks(shim)];
    watches.forEach((watch) => this.watch(watch));
    this.silence();
    if (config.alarmTopicArn !== undefined) {
      const action = new actions.SnsAction(sns.Topic.fromTopicArn(this, 'Topic', config.alarmTopicArn));
      this.all.forEach((alarm) => {
        alarm.addAlarmAction(action);
        alarm.addOkAction(action);
      });
    }
  }

  private watch({ id, says, metric, above, periods }: Watch): void {
    this.all.push(
      new cloudwatch.Alarm(this, id, {
        alarmDescription: `${says} See docs/operations.md.`,
        metric,
        threshold: above,
        comparisonOperator: ComparisonOperator.GREATER_THAN_THRESHOLD,
        evaluationPeriods: periods,
        treatMissingData: TreatMissingData.NOT_BREACHING,
      }),
    );
  }

  /** No task has said anything: the one fault that no metric can tell. */
  private silence(): void {
    this.all.push(
      new cloudwatch.Alarm(this, 'Silence', {
        alarmDescription: 'No task of the shim tells its metrics. See docs/operations.md, Calls do not come in.',
        metric: shimMetric('STREAMS_LIVE', 'SampleCount'),
        threshold: 1,
        comparisonOperator: ComparisonOperator.LESS_THAN_THRESHOLD,
        evaluationPeriods: 5,
        treatMissingData: TreatMissingData.BREACHING,
      }),
    );
  }
}

/** What is lost stays lost: one is one too many. */
function losses(): Watch[] {
  const lost = (id: string, constant: string, says: string): Watch => ({
    id,
    says,
    metric: shimMetric(constant, 'Sum'),
    above: 0,
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
    above: 0,
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
      above: Math.floor(config.streamsMax * 0.9),
      periods: 3,
    },
    {
      id: 'Refusals',
      says: 'More than one socket in ten is refused.',
      metric: share('STREAM_REFUSALS', 'refused, %'),
      above: 10,
      periods: 2,
    },
    {
      id: 'Degraded',
      says: 'Calls are taken without the store.',
      metric: share('STREAMS_DEGRADED', 'degraded, %'),
      above: 1,
      periods: 1,
    },
    {
      id: 'SlowAnswers',
      says: 'CONNECTED takes long: CXone gives up after a while.',
      metric: shimMetric('ACK_LATENCY_SECONDS', 'p99'),
      above: 0.25,
      periods: 3,
    },
    {
      id: 'WrongTokens',
      says: 'Many tokens are refused: one has run out, or somebody guesses.',
      metric: shimMetric('AUTH_REFUSALS', 'Sum'),
      above: 20,
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
      above: 0,
      periods: 3,
    },
    {
      id: 'Memory',
      says: 'The tasks need more memory than was expected.',
      metric: shim.service.metricMemoryUtilization({ statistic: 'Maximum', period: Duration.minutes(1) }),
      above: 85,
      periods: 5,
    },
    {
      id: 'Cpu',
      says: 'The tasks need more CPU than was expected.',
      metric: shim.service.metricCpuUtilization({ statistic: 'Maximum', period: Duration.minutes(1) }),
      above: 85,
      periods: 10,
    },
  ];
}
