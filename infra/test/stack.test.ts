import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Match } from 'aws-cdk-lib/assertions';

import { LANES, UPLINKS } from '../lib/assistance';
import { ASSISTANCE, only, synthesize } from './example';
import { read } from './sources';

const template = synthesize();
const assisting = synthesize(ASSISTANCE);

function container(of = template) {
  const task = only(of.findResources('AWS::ECS::TaskDefinition'));
  return only(task.Properties.ContainerDefinitions as Record<string, any>[]);
}

/** The statements of the task's own role, by their Sids. */
function taskStatements(of = template): Record<string, any> {
  const policies = Object.entries(of.findResources('AWS::IAM::Policy'));
  const [, policy] = policies.find(([id]) => /TaskTaskRole/.test(id))!;
  return Object.fromEntries(policy.Properties.PolicyDocument.Statement.map((one: any) => [one.Sid, one]));
}

/** The number of shards of the index in which things are due. */
function dueShards(): number {
  return Number(/DUE_SHARDS: u64 = (\d+);/.exec(read('crates', 'store', 'src', 'table.rs'))![1]);
}

test('a task has two minutes to drain, in the container and at the load balancer', () => {
  assert.equal(container().StopTimeout, 120);
  template.hasResourceProperties('AWS::ElasticLoadBalancingV2::TargetGroup', {
    TargetGroupAttributes: Match.arrayWith([
      { Key: 'deregistration_delay.timeout_seconds', Value: '120' },
      { Key: 'preserve_client_ip.enabled', Value: 'true' },
      { Key: 'deregistration_delay.connection_termination.enabled', Value: 'false' },
      { Key: 'target_health_state.unhealthy.connection_termination.enabled', Value: 'false' },
    ]),
  });
});

test('nothing in the container can be written, and nobody in it is root', () => {
  const { ReadonlyRootFilesystem, User, Privileged, LinuxParameters } = container();
  assert.deepEqual([ReadonlyRootFilesystem, User, Privileged], [true, '65532:65532', false]);
  assert.deepEqual(LinuxParameters.Capabilities.Drop, ['ALL']);
});

test('a task that is full is not taken for a dead one', () => {
  template.hasResourceProperties('AWS::ElasticLoadBalancingV2::TargetGroup', {
    HealthCheckPath: '/healthz',
    HealthCheckProtocol: 'HTTP',
    Protocol: 'TCP',
    Port: 8080,
  });
});

test('only TLS comes in from outside', () => {
  template.resourceCountIs('AWS::ElasticLoadBalancingV2::Listener', 1);
  template.hasResourceProperties('AWS::ElasticLoadBalancingV2::Listener', {
    Protocol: 'TLS',
    Port: 443,
    SslPolicy: Match.stringLikeRegexp('TLS13'),
    Certificates: [{ CertificateArn: Match.stringLikeRegexp('^arn:aws:acm:') }],
  });
  const open = Object.values(template.findResources('AWS::EC2::SecurityGroup'))
    .flatMap((group) => group.Properties.SecurityGroupIngress ?? [])
    .map((rule: any) => [rule.CidrIp, rule.FromPort, rule.ToPort]);
  assert.deepEqual(open, [['0.0.0.0/0', 443, 443]]);
});

test('peers and the ports of the assist app are as narrow as they are said', () => {
  const narrow = synthesize({ peers: '203.0.113.0/24,198.51.100.7/32', assistPorts: '8443' });
  const groups = Object.values(narrow.findResources('AWS::EC2::SecurityGroup')).map((group) => group.Properties);
  const cidrs = groups.flatMap((group) => group.SecurityGroupIngress ?? []).map((rule: any) => rule.CidrIp);
  assert.deepEqual(cidrs, ['203.0.113.0/24', '198.51.100.7/32']);
  const out = groups.flatMap((group) => group.SecurityGroupEgress ?? []);
  const outside = out.filter((rule: any) => rule.CidrIp === '0.0.0.0/0').map((rule: any) => rule.FromPort);
  assert.deepEqual(outside, [443, 8443]);
});

test('a deployment keeps every old task until a new one is there, and goes back by itself', () => {
  template.hasResourceProperties('AWS::ECS::Service', {
    DeploymentConfiguration: {
      MinimumHealthyPercent: 100,
      MaximumPercent: 200,
      DeploymentCircuitBreaker: { Enable: true, Rollback: true },
    },
    AvailabilityZoneRebalancing: 'DISABLED',
    // Given, it would undo what scaling has done with every deployment.
    DesiredCount: Match.absent(),
  });
});

test('scaling goes by live streams per task and not by CPU', () => {
  template.resourceCountIs('AWS::ApplicationAutoScaling::ScalingPolicy', 1);
  template.hasResourceProperties('AWS::ApplicationAutoScaling::ScalingPolicy', {
    PolicyType: 'TargetTrackingScaling',
    TargetTrackingScalingPolicyConfiguration: {
      CustomizedMetricSpecification: {
        Namespace: 'Earpiece',
        MetricName: 'earpiece_streams_live',
        Dimensions: [{ Name: 'Service', Value: 'shim' }],
        Statistic: 'Average',
      },
      TargetValue: 1200,
    },
  });
  template.hasResourceProperties('AWS::ApplicationAutoScaling::ScalableTarget', { MinCapacity: 2, MaxCapacity: 10 });
});

test('a task may protect itself, and only tasks of its own cluster', () => {
  const { Action, Resource } = taskStatements().ScaleInProtection;
  assert.deepEqual(Action, ['ecs:GetTaskProtection', 'ecs:UpdateTaskProtection']);
  assert.match(JSON.stringify(Resource), /:task\/.*ShimCluster.*\/\*/);
});

test('the tasks touch contacts, one-time ids and public keys, and never a signing key', () => {
  const statements = taskStatements();
  const partitions = Object.values(statements).flatMap((one: any) =>
    Object.values(one.Condition ?? {}).flatMap((operator: any) => operator['dynamodb:LeadingKeys'] ?? []),
  );
  assert.deepEqual(partitions.sort(), ['0', '1', '2', '3', 'CONTACT#*', 'JWKS', 'ONETIME#*']);
  assert.deepEqual(statements.PublicKeys.Action, 'dynamodb:Query');
  assert.deepEqual(statements.OneTimeTokens.Action, 'dynamodb:UpdateItem');
  const all = JSON.stringify(statements);
  assert.doesNotMatch(all, /dynamodb:(Scan|\*)|s3:\*|"Resource":"\*"/);
});

test('no secret is in the environment', () => {
  const named = (list: any[]) => list.map((one) => one.Name).sort();
  const ours = ['ASSIST_AUTHORIZATION', 'ASSIST_URL', 'AUDIO_TOKENS', 'INGEST_TOKENS'].map((one) => `EARPIECE_${one}`);
  const webhooks = ['KB_SYNC_URL', 'ON_ACCEPT_URL', 'WEBHOOK_SECRETS'].map((one) => `EARPIECE_${one}`);
  assert.deepEqual(named(container().Secrets), ours);
  assert.deepEqual(named(container(assisting).Secrets), [...ours, ...webhooks]);
  for (const of of [template, assisting]) {
    assert.ok(!named(container(of).Environment).some((name) => /TOKEN|AUTHORIZATION|SECRET/.test(name)));
  }
});

test('without credentials for CXone there is no uplink, and nothing is made or allowed for one', () => {
  const names = container().Environment.map((one: any) => one.Name);
  assert.deepEqual(names.filter((name: string) => /CXONE|UPLINK|AUDIT|TRIGGERS|KNOWLEDGE/.test(name)), []);
  assert.deepEqual(Object.keys(taskStatements()).filter((sid) => /Cxone|Interactions|Leases/.test(sid)), []);
  template.resourceCountIs('AWS::SecretsManager::Secret', 2);
  const alarms = Object.keys(template.findResources('AWS::CloudWatch::Alarm'));
  assert.deepEqual(alarms.filter((id) => /Cxone|Lease|Uplink|Outbox/.test(id)), []);
});

test('with them the shim is told everything that is said of CXone', () => {
  const environment = Object.fromEntries(container(assisting).Environment.map((one: any) => [one.Name, one.Value]));
  const told = Object.entries(environment).filter(([name]) => /CXONE|UPLINK|AUDIT|TRIGGERS|KNOWLEDGE/.test(name));
  assert.deepEqual(Object.fromEntries(told), {
    EARPIECE_AUDIT_KEEP: '30d',
    EARPIECE_CXONE_API: 'https://api.nicecxone.com',
    EARPIECE_CXONE_BUS_NO: '4595000',
    EARPIECE_CXONE_CREDENTIALS: 'secretsmanager:earpiece/cxone',
    EARPIECE_CXONE_ORG: 'acme',
    EARPIECE_KNOWLEDGE: '/articles',
    EARPIECE_KNOWLEDGE_LANGUAGE: 'de-DE',
    EARPIECE_TRIGGERS: JSON.stringify(ASSISTANCE.triggers),
    EARPIECE_UPLINKS: 'suggestions,insights,popups',
  });
});

test('a task may read the credentials for CXone, and no other secret', () => {
  const arn = 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:cxone-a1B2c3';
  const byArn = synthesize({ ...ASSISTANCE, cxoneCredentials: arn });
  assert.equal(taskStatements(byArn).CxoneCredentials.Resource, arn);
  // Known by its name, a secret has six more characters in its ARN.
  const { Resource } = taskStatements(assisting).CxoneCredentials;
  assert.match(JSON.stringify(Resource), /:secret:earpiece\/cxone-\?{6}"/);
  const reading = Object.values(taskStatements(assisting)).filter((one) => /secretsmanager/.test(JSON.stringify(one)));
  const allowed = reading.map((one) => [one.Sid, one.Action]);
  assert.deepEqual(allowed, [['CxoneCredentials', 'secretsmanager:GetSecretValue']]);
});

test('the program looks for the credentials of its task where ECS has them', () => {
  assert.match(read('shim', 'Cargo.toml'), /^earpiece-uplink = \{.*features = \[.*"chain".*\] \}$/m);
  assert.match(read('crates', 'uplink', 'Cargo.toml'), /^chain = \[.*"earpiece-cxone\/chain".*\]$/m);
});

test('with them a task touches interactions, its leases and the outbox, by the keys that the store has', () => {
  const statements = taskStatements(assisting);
  const keys = (sid: string) =>
    Object.values(statements[sid].Condition).flatMap((operator: any) => operator['dynamodb:LeadingKeys']).sort();
  const store = read('crates', 'store', 'src', 'key.rs');
  assert.match(store, /format!\("INTERACTION#\{id\}"\)/);
  assert.deepEqual(keys('Interactions'), ['INTERACTION#*']);
  assert.match(store, /format!\("LEASE#\{name\}"\)/);
  assert.deepEqual(keys('Leases'), UPLINKS.map((uplink) => `LEASE#${uplink}`).sort());
  assert.deepEqual(statements.Leases.Action, ['dynamodb:GetItem', 'dynamodb:UpdateItem']);
  const [, dead] = /format!\("O(X)\{shard\}"\)/.exec(store)!;
  const letters = [...store.matchAll(/Lane::\w+ => '(\w)'/g)].map(([, letter]) => letter!);
  assert.equal(letters.length, Object.values(LANES).flat().length);
  const shards = Array.from({ length: dueShards() }, (_, shard) => shard);
  const lanes = [...letters, dead!].flatMap((letter) => shards.map((shard) => `O${letter}${shard}`));
  assert.deepEqual(keys('WhatIsDue'), [...shards.map(String), ...lanes].sort());
  assert.doesNotMatch(JSON.stringify(statements), /dynamodb:(Scan|\*)|"Resource":"\*"/);
});

test('uplinks and lanes are those of the programs', () => {
  const labels = (source: string) => {
    const [, body] = /const fn label\(self\) -> &'static str \{([^]+?)\n    \}/.exec(source)!;
    return [...body!.matchAll(/"(\w+)"/g)].map(([, one]) => one);
  };
  assert.deepEqual(labels(read('crates', 'uplink', 'src', 'settings.rs')), [...UPLINKS]);
  const outbox = read('crates', 'core', 'src', 'assist', 'outbox.rs');
  const lanes = outbox.slice(outbox.indexOf('impl Lane {'));
  assert.deepEqual(labels(lanes).sort(), Object.values(LANES).flat().sort());
});

test('every socket and every lane has its alarm, and only those that tasks may hold', () => {
  const watched = (of: typeof template) =>
    Object.values(of.findResources('AWS::CloudWatch::Alarm')).flatMap(({ Properties }) =>
      (Properties.Dimensions ?? []).filter((one: any) => /^(lane|lease|uplink)$/.test(one.Name)).map((one: any) => {
        const { Threshold, EvaluationPeriods, ComparisonOperator, TreatMissingData } = Properties;
        const limit = ComparisonOperator === 'LessThanThreshold' ? `< ${Threshold}` : `> ${Threshold}`;
        return `${one.Name} ${one.Value} ${limit} for ${EvaluationPeriods}, ${TreatMissingData}`;
      }),
    );
  assert.deepEqual(watched(assisting).sort(), [
    ...Object.values(LANES).flat().map((lane) => `lane ${lane} > 60 for 5, notBreaching`).sort(),
    ...[...UPLINKS].sort().map((uplink) => `lease ${uplink} < 1 for 2, breaching`),
    ...[...UPLINKS].sort().map((uplink) => `uplink ${uplink} < 1 for 5, breaching`),
  ]);
  assert.deepEqual(watched(synthesize({ ...ASSISTANCE, uplinks: 'insights' })).sort(), [
    'lane insights > 60 for 5, notBreaching',
    'lease insights < 1 for 2, breaching',
    'uplink insights < 1 for 5, breaching',
  ]);
});

test('refused credentials are told by whichever socket meets them, within a minute', () => {
  const [refused] = Object.entries(assisting.findResources('AWS::CloudWatch::Alarm'))
    .filter(([id]) => /CxoneRefuses/.test(id))
    .map(([, alarm]) => alarm.Properties);
  assert.deepEqual([refused.EvaluationPeriods, refused.Threshold], [1, 0]);
  assert.equal(refused.Metrics.find((one: any) => one.Expression).Expression, 'MAX(FILL(METRICS(), 0))');
  const parts = refused.Metrics.filter((one: any) => one.MetricStat).map((one: any) => one.MetricStat.Metric);
  assert.ok(parts.every((one: any) => one.MetricName === 'earpiece_uplink_refused'));
  const uplinks = parts.map((one: any) => one.Dimensions.find((dimension: any) => dimension.Name === 'uplink').Value);
  assert.deepEqual(uplinks.sort(), [...UPLINKS].sort());
});

test('a table and a bucket are made only where none are named, and outlive the stack', () => {
  for (const type of ['AWS::DynamoDB::Table', 'AWS::S3::Bucket']) {
    const made = only(template.findResources(type));
    assert.deepEqual([made.DeletionPolicy, made.UpdateReplacePolicy], ['Retain', 'Retain']);
  }
  const beside = synthesize({
    tableName: 'calls',
    recordingsBucket: 'recordings-of-calls',
    connectionsApiId: 'abc123',
    jwtIssuer: 'https://assist.example.com',
  });
  beside.resourceCountIs('AWS::DynamoDB::Table', 0);
  beside.resourceCountIs('AWS::S3::Bucket', 0);
  const environment = Object.fromEntries(container(beside).Environment.map((one: any) => [one.Name, one.Value]));
  assert.equal(environment.EARPIECE_TABLE, 'calls');
  assert.equal(environment.EARPIECE_RECORDINGS, 's3://recordings-of-calls');
  assert.equal(environment.EARPIECE_JWKS, 'table');
  assert.match(JSON.stringify(environment.EARPIECE_CONNECTIONS_URL), /https:\/\/abc123\.execute-api\./);
  assert.match(JSON.stringify(taskStatements(beside).ListeningPages.Resource), /abc123\/v1\/POST\/@connections/);
});

test('the table and the recordings are reached without leaving AWS', () => {
  const services = Object.values(template.findResources('AWS::EC2::VPCEndpoint'));
  const names = services.map((one) => JSON.stringify(one.Properties.ServiceName).match(/\.(s3|dynamodb)"/)?.[1]);
  assert.deepEqual(names.sort(), ['dynamodb', 's3']);
});

test('alarms tell a topic where there is one', () => {
  const topic = 'arn:aws:sns:eu-central-1:111122223333:on-call';
  const alarms = Object.values(synthesize({ alarmTopicArn: topic }).findResources('AWS::CloudWatch::Alarm'));
  // Scaling brings alarms of its own only when it is deployed: all of these are ours.
  assert.ok(alarms.length >= 15);
  for (const alarm of alarms) {
    assert.deepEqual(alarm.Properties.AlarmActions, [topic]);
  }
});
