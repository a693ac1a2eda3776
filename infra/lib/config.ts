// What can be set, with its default: the context of `cdk deploy`. Every fault is reported at once, before anything is
// synthesized, as the programs themselves do it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { type AssistanceConfig, readAssistance } from './assistance';
import { REPOSITORY_ROOT } from './settings';

/** The largest task that Fargate has for these vCPUs, in MiB, by the units of CPU. */
const MEMORY_MIB_BY_CPU: Readonly<Record<number, readonly [min: number, max: number]>> = {
  256: [512, 2048],
  512: [1024, 4096],
  1024: [2048, 8192],
  2048: [4096, 16384],
  4096: [8192, 30720],
};

/** The configuration. It exists only if all of it can be used. */
export interface Config {
  /** Name of the stack. */
  readonly stackName: string;
  /** Certificate of the load balancer's TLS listener. */
  readonly certificateArn: string;
  /** Networks that may open sockets: CXone's media servers, and whoever calls `/ingest`. */
  readonly peers: readonly string[];
  /** Ports at which the assist app is reached; 443 is always open. */
  readonly assistPorts: readonly number[];
  /** ECR repository of the image. */
  readonly imageRepository: string;
  /** Tag of the image. */
  readonly imageTag: string;
  /** What the image is built for. */
  readonly architecture: 'arm64' | 'x86_64';
  /** CPU units of a task: 1024 are one vCPU. */
  readonly cpu: number;
  /** Memory of a task. */
  readonly memoryMib: number;
  /** Tasks that always run. */
  readonly tasksMin: number;
  /** Tasks that run at most. */
  readonly tasksMax: number;
  /** Live streams per task that scaling aims at. */
  readonly streamsPerTask: number;
  /** Live streams that a task takes at most. */
  readonly streamsMax: number;
  /** NAT gateways: one per zone, so that no zone depends on another. */
  readonly natGateways: number;
  /** Table of the serverless stack; without one, a table is made. */
  readonly tableName?: string;
  /** Bucket of the serverless stack; without one, a bucket is made. */
  readonly recordingsBucket?: string;
  /** Id of the WebSocket API whose pages listen; without one, nobody listens. */
  readonly connectionsApiId?: string;
  /** Issuer of the tokens; without one, only static tokens are accepted. */
  readonly jwtIssuer?: string;
  /** Audience of the tokens. */
  readonly jwtAudience: string;
  /** A contact without an open socket for so long is over. */
  readonly quietPeriod: string;
  /** How much is logged. */
  readonly logLevel: string;
  /** How many days logs are kept. */
  readonly logRetentionDays: number;
  /** How many days recordings are kept, when this stack makes the bucket. */
  readonly recordingsRetentionDays: number;
  /** Topic that hears of alarms. */
  readonly alarmTopicArn?: string;
  /** Whether load balancer and table refuse to be deleted. */
  readonly deletionProtection: boolean;
  /** CXone's platform; without credentials for it, calls come in and nothing goes back to agents. */
  readonly assistance?: AssistanceConfig;
}

/** Reads the configuration from a context; throws an error that names every fault. */
export function readConfig(context: (key: string) => unknown): Config {
  const faults: string[] = [];
  const text = (key: string, fallback: string, pattern: RegExp, form: string): string => {
    const value = String(context(key) ?? fallback);
    if (!pattern.test(value)) {
      faults.push(`${key} must be ${form}`);
    }
    return value;
  };
  const optional = (key: string, pattern: RegExp, form: string): string | undefined => {
    const value = context(key);
    return value === undefined || value === '' ? undefined : text(key, '', pattern, form);
  };
  const count = (key: string, fallback: number, min: number, max: number): number => {
    const value = Number(context(key) ?? fallback);
    if (!Number.isInteger(value) || value < min || value > max) {
      faults.push(`${key} must be a whole number from ${min} to ${max}`);
    }
    return value;
  };
  const list = (key: string, fallback: string): string[] => {
    const value = context(key) ?? fallback;
    const items = Array.isArray(value) ? value.map(String) : String(value).split(',');
    return items.map((item) => item.trim()).filter((item) => item !== '');
  };

  const config: Config = {
    stackName: text('stackName', 'earpiece-shim', /^[A-Za-z][A-Za-z0-9-]{0,127}$/, 'the name of a stack'),
    certificateArn: text(
      'certificateArn',
      '',
      /^arn:[^:]+:acm:[^:]+:\d{12}:certificate\/.+$/,
      'the ARN of a certificate in ACM for the load balancer (--context certificateArn=…)',
    ),
    peers: list('peers', '0.0.0.0/0'),
    assistPorts: list('assistPorts', '').map(Number),
    imageRepository: text('imageRepository', 'earpiece-shim', /^[a-z0-9._/-]{2,256}$/, 'the name of an ECR repository'),
    imageTag: text('imageTag', workspaceVersion(), /^[\w.-]{1,128}$/, 'the tag of an image'),
    architecture: text('architecture', 'arm64', /^(arm64|x86_64)$/, 'arm64 or x86_64') as Config['architecture'],
    cpu: count('cpu', 1024, 256, 4096),
    memoryMib: count('memoryMib', 4096, 512, 30720),
    tasksMin: count('tasksMin', 2, 1, 1000),
    tasksMax: count('tasksMax', 10, 1, 1000),
    streamsPerTask: count('streamsPerTask', 1200, 1, 100_000),
    streamsMax: count('streamsMax', 2500, 1, 100_000),
    natGateways: count('natGateways', 2, 1, 2),
    tableName: optional('tableName', /^[\w.-]{3,255}$/, 'the name of a table'),
    recordingsBucket: optional('recordingsBucket', /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'the name of a bucket'),
    connectionsApiId: optional('connectionsApiId', /^[a-z0-9]{1,32}$/, 'the id of a WebSocket API'),
    jwtIssuer: optional('jwtIssuer', /^\S+$/, 'the issuer as the serverless stack puts it out'),
    jwtAudience: text('jwtAudience', 'earpiece', /^\S+$/, 'a word'),
    quietPeriod: text('quietPeriod', '15m', /^\d+(ms|s|m|h|d)$/, 'a time such as 15m'),
    logLevel: text('logLevel', 'info', /^(error|warn|info|debug|trace)$/, 'error, warn, info, debug or trace'),
    logRetentionDays: count('logRetentionDays', 30, 1, 3653),
    recordingsRetentionDays: count('recordingsRetentionDays', 90, 1, 36_500),
    alarmTopicArn: optional('alarmTopicArn', /^arn:[^:]+:sns:.+$/, 'the ARN of a topic'),
    deletionProtection: text('deletionProtection', 'true', /^(true|false)$/, 'true or false') === 'true',
    assistance: readAssistance(context, faults),
  };

  if (config.peers.length === 0 || config.peers.some((peer) => !/^\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/.test(peer))) {
    faults.push('peers must be networks such as 203.0.113.0/24, separated by commas');
  }
  if (config.assistPorts.some((port) => !Number.isInteger(port) || port < 1 || port > 65_535)) {
    faults.push('assistPorts must be port numbers, separated by commas');
  }
  const memory = MEMORY_MIB_BY_CPU[config.cpu];
  if (memory === undefined) {
    faults.push(`cpu must be one of ${Object.keys(MEMORY_MIB_BY_CPU).join(', ')}`);
  } else if (config.memoryMib < memory[0] || config.memoryMib > memory[1]) {
    faults.push(`memoryMib must be from ${memory[0]} to ${memory[1]} when cpu is ${config.cpu}`);
  }
  if (config.tasksMax < config.tasksMin) {
    faults.push('tasksMax must not be less than tasksMin');
  }
  if (config.streamsPerTask >= config.streamsMax) {
    faults.push('streamsPerTask must be less than streamsMax: a task that is full cannot wait for another to start');
  }
  if (faults.length > 0) {
    throw new Error(`the configuration cannot be used:\n  ${faults.join('\n  ')}`);
  }
  return config;
}

/** The version of the workspace, which is also the tag of its image. */
export function workspaceVersion(): string {
  const manifest = readFileSync(join(REPOSITORY_ROOT, 'Cargo.toml'), 'utf8');
  const version = /\[workspace\.package\][^[]*?^version = "([^"]+)"/ms.exec(manifest)?.[1];
  if (version === undefined) {
    throw new Error('Cargo.toml has no version under [workspace.package]');
  }
  return version;
}
