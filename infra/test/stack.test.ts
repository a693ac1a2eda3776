import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Match } from 'aws-cdk-lib/assertions';

import { only, synthesize } from './example';

const template = synthesize();

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
  const { Environment, Secrets } = container();
  const named = (list: any[]) => list.map((one) => one.Name).sort();
  assert.deepEqual(named(Secrets), [
    'EARPIECE_ASSIST_AUTHORIZATION',
    'EARPIECE_ASSIST_URL',
    'EARPIECE_AUDIO_TOKENS',
    'EARPIECE_INGEST_TOKENS',
  ]);
  assert.ok(!named(Environment).some((name) => /TOKEN|AUTHORIZATION|SECRET/.test(name)));
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
