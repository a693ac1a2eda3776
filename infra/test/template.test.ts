import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TELEMETRY } from '../lib/telemetry';
import { ASSISTANCE, only, synthesize } from './example';
import { allSettings, list, read, serverlessTemplate } from './sources';

const template = serverlessTemplate();
const resources = Object.entries(template.Resources as Record<string, any>);
const functions = resources.filter(([, one]) => one.Type === 'AWS::Serverless::Function');

/** The partitions of the table that a function's statements name. */
function partitions(properties: any): string[] {
  const statements = (properties.Policies ?? []).flatMap((policy: any) => policy.Statement);
  return statements.flatMap((one: any) =>
    Object.values(one.Condition ?? {}).flatMap((operator: any) => operator['dynamodb:LeadingKeys'] ?? []),
  );
}

test('every function of the package is deployed, and nothing else', () => {
  const deployed = functions.map(([, one]) => `${one.Metadata.BuildProperties.Binary}.rs`).sort();
  assert.deepEqual(deployed, list('functions', 'src', 'bin'));
  for (const [id, one] of functions) {
    assert.equal(one.Metadata.BuildMethod, 'rust-cargolambda', id);
    assert.equal(one.Properties.FunctionName.Sub, `\${AWS::StackName}-${one.Metadata.BuildProperties.Binary}`);
  }
});

test('functions are built in their own package, where their profile holds', () => {
  const folder = template.Globals.Function.CodeUri;
  const binaries = [...read(folder, 'Cargo.toml').matchAll(/^\[\[bin\]\]\nname = "([^"]+)"/gm)].map(([, name]) => name);
  assert.match(read(folder, '.cargo', 'config.toml'), /^\[profile\.release\]$/m);
  for (const [id, one] of functions) {
    assert.equal(one.Properties.CodeUri, undefined, id);
    assert.ok(binaries.includes(one.Metadata.BuildProperties.Binary), id);
  }
});

test('an emulator is told where it has the connections, and a build of it what it is for', () => {
  const [, local] = read('samconfig.toml').split('[local.deploy.parameters]');
  const given = [...local!.matchAll(/"(\w+)=([^"]+)"/g)].map(([, name, value]) => [name!, value!] as const);
  assert.deepEqual(given.filter(([name]) => !(name in template.Parameters)), []);
  const values = Object.fromEntries(given);
  assert.match(values.ConnectionsBaseUrl!, new RegExp(template.Parameters.ConnectionsBaseUrl.AllowedPattern));
  assert.match(values.ConnectionsBaseUrl!, /\/_aws\/execute-api$/);
  const build = read('samconfig.toml').split('[local.build.parameters]')[1]!.split('[')[0]!;
  assert.match(build, new RegExp(`"Architecture=${values.Architecture}"`));
});

test('any absolute URI may issue tokens, and nothing else', () => {
  const pattern = new RegExp(template.Parameters.JwtIssuer.AllowedPattern);
  for (const issuer of ['', 'https://assist.example.com', 'urn:earpiece:production']) {
    assert.match(issuer, pattern);
  }
  for (const issuer of ['earpiece', '//assist.example.com', 'urn:', 'https://a b']) {
    assert.doesNotMatch(issuer, pattern);
  }
});

test('every variable that is set is a setting that is read', () => {
  const known = allSettings();
  const environments = [template.Globals.Function, ...functions.map(([, one]) => one.Properties)];
  const set = environments.flatMap((one) => Object.keys(one.Environment?.Variables ?? {}));
  const all = { jwtIssuer: 'x', connectionsApiId: 'x', ...ASSISTANCE };
  const task = only(synthesize(all).findResources('AWS::ECS::TaskDefinition'));
  const { Environment, Secrets } = only(task.Properties.ContainerDefinitions as any[]);
  const names = [...set, ...[...Environment, ...Secrets].map((one: any) => one.Name)];
  assert.ok(names.length > 50);
  assert.deepEqual(names.filter((name) => !known.has(name)), []);
});

test('only the token function touches the signing keys', () => {
  const holders = functions.filter(([, one]) => partitions(one.Properties).includes('SIGNING')).map(([id]) => id);
  assert.deepEqual(holders, ['Token']);
});

// What the handlers ask of the table, as crates/store does it.
const ASKED: Record<string, string[]> = {
  TextHook: [
    'CONTACT#*: DeleteItem Query UpdateItem',
    'INTERACTION#*: DeleteItem GetItem PutItem UpdateItem',
    'JWKS: Query',
    'ONETIME#*: UpdateItem',
    'RATE#*: UpdateItem',
  ],
  WsConnect: ['CONNECTION#*: GetItem UpdateItem', 'JWKS: Query', 'ONETIME#*: UpdateItem'],
  WsMessage: [
    'CONNECTION#*: GetItem UpdateItem',
    'CONTACT#*: DeleteItem UpdateItem',
    'JWKS: Query',
    'ONETIME#*: UpdateItem',
  ],
  WsDisconnect: ['CONNECTION#*: GetItem UpdateItem', 'CONTACT#*: DeleteItem UpdateItem'],
  Authorizer: ['JWKS: Query', 'ONETIME#*: UpdateItem'],
  Token: ['JWKS: PutItem Query', 'SIGNING: GetItem PutItem'],
  ContactEvents: ['CONTACT#*: DeleteItem Query UpdateItem', 'JWKS: Query', 'ONETIME#*: UpdateItem'],
  Suggestions: [
    'INTERACTION#*: DeleteItem GetItem PutItem UpdateItem',
    'JWKS: Query',
    'ONETIME#*: UpdateItem',
    'RATE#*: UpdateItem',
  ],
  Reference: [],
  Reaper: [
    ...['0', '1', '2', '3'].map((shard) => `${shard}: Query`),
    'CONTACT#*: DeleteItem GetItem Query UpdateItem',
    'INTERACTION#*: DeleteItem GetItem PutItem UpdateItem',
    ...['U0', 'U1', 'U2', 'U3'].map((shard) => `${shard}: Query`),
  ],
};

test('a function may do in each partition what its handler does there, and no more', () => {
  const allowed = functions.map(([id, one]) => {
    const statements = (one.Properties.Policies ?? []).flatMap((policy: any) => policy.Statement);
    const lines = statements.flatMap((statement: any) => {
      const actions = [statement.Action].flat().map((action: string) => action.replace('dynamodb:', '')).join(' ');
      const named = Object.values(statement.Condition ?? {}).flatMap((one: any) => one['dynamodb:LeadingKeys'] ?? []);
      return named.map((partition) => `${partition}: ${actions}`);
    });
    return [id, lines.sort()];
  });
  assert.deepEqual(Object.fromEntries(allowed), ASKED);
});

test('only functions that speak to sockets may, and only ws-message may close one', () => {
  const allowed = functions.flatMap(([id, one]) => {
    const statements = (one.Properties.Policies ?? []).flatMap((policy: any) => policy.Statement);
    const resources = statements
      .filter((statement: any) => statement.Action === 'execute-api:ManageConnections')
      .flatMap((statement: any) => [statement.Resource].flat());
    return resources.map(({ Sub }: any) => `${id} ${/WebSocketApi\}\/v1\/(.+)\/@connections\/\*$/.exec(Sub)?.[1]}`);
  });
  const expected = ['ContactEvents POST', 'Reaper POST', 'TextHook POST', 'WsMessage DELETE', 'WsMessage POST'];
  assert.deepEqual(allowed.sort(), expected);
});

test('every statement on the table names its partitions, and none scans', () => {
  for (const [id, one] of functions) {
    for (const policy of one.Properties.Policies ?? []) {
      for (const statement of policy.Statement) {
        const actions: string[] = [statement.Action].flat();
        assert.ok(!actions.some((action) => /\*|Scan|Batch/.test(action)), `${id}.${statement.Sid}`);
        if (actions.some((action) => action.startsWith('dynamodb:'))) {
          assert.ok(JSON.stringify(statement.Condition).includes('dynamodb:LeadingKeys'), `${id}.${statement.Sid}`);
        }
      }
    }
  }
});

test('the boundary allows whatever a function is allowed', () => {
  const boundary = template.Resources.FunctionBoundary.Properties.PolicyDocument.Statement;
  const allowed = new Set(boundary.flatMap((statement: any) => statement.Action));
  const asked = functions
    .flatMap(([, one]) => (one.Properties.Policies ?? []).flatMap((policy: any) => policy.Statement))
    .flatMap((statement: any) => statement.Action);
  assert.deepEqual(asked.filter((action: string) => !allowed.has(action)), []);
});

test('the boundary lets DynamoDB use the key of the table, and nobody else use any key', () => {
  assert.equal(template.Resources.Table.Properties.SSESpecification.SSEEnabled, true);
  const boundary: any[] = template.Resources.FunctionBoundary.Properties.PolicyDocument.Statement;
  const keys = boundary.filter((one) => [one.Action].flat().some((action) => action.startsWith('kms:')));
  assert.deepEqual(keys.map((one) => one.Sid), ['StateKey']);
  assert.ok(keys[0].Action.includes('kms:Decrypt'));
  const service = { 'kms:ViaService': { Sub: 'dynamodb.${AWS::Region}.${AWS::URLSuffix}' } };
  assert.deepEqual(keys[0].Condition, { StringEquals: service });
});

test('every function and both APIs have a log that ends', () => {
  for (const [id, one] of functions) {
    const log = template.Resources[one.Properties.LoggingConfig.LogGroup.Ref];
    assert.equal(log.Properties.LogGroupName.Sub, `/aws/lambda/${one.Properties.FunctionName.Sub}`, id);
  }
  for (const [id, one] of resources.filter(([, one]) => one.Type === 'AWS::Logs::LogGroup')) {
    assert.deepEqual(one.Properties.RetentionInDays, { Ref: 'LogRetentionDays' }, id);
  }
});

test('no access log holds a query, a header or a path', () => {
  for (const api of ['HttpApi', 'WebSocketStage']) {
    const { Format } = template.Resources[api].Properties.AccessLogSettings;
    assert.doesNotThrow(() => JSON.parse(Format), api);
    assert.doesNotMatch(Format, /querystring|queryString|header|\$context\.path|authorizer\.(?!error)/i, api);
  }
  assert.equal(template.Resources.WebSocketStage.Properties.DefaultRouteSettings.DataTraceEnabled, false);
});

test('alarms watch metrics that are there, and name dimensions that are told', () => {
  const measured = new Set(TELEMETRY.values());
  const binaries = new Set(functions.map(([, one]) => one.Metadata.BuildProperties.Binary));
  const alarms = resources.filter(([, one]) => one.Type === 'AWS::CloudWatch::Alarm');
  const watched = alarms.flatMap(([id, { Properties }]) => {
    const metrics = Properties.Metrics?.flatMap((one: any) => one.MetricStat?.Metric ?? []) ?? [Properties];
    return metrics.map((metric: any) => [id, metric]);
  });
  const ours = watched.filter(([, metric]) => metric.Namespace === 'Earpiece');
  assert.ok(ours.length >= 4);
  for (const [id, metric] of ours) {
    assert.ok(measured.has(metric.MetricName), id);
    const service = metric.Dimensions.find((dimension: any) => dimension.Name === 'Service');
    assert.ok(binaries.has(service.Value), id);
  }
  const functionsWatched = (metric: string) =>
    watched.filter(([, one]) => one.MetricName === metric).map(([, one]) => one.Dimensions[0].Value.Ref).sort();
  for (const metric of ['Errors', 'Throttles']) {
    assert.deepEqual(functionsWatched(metric), functions.map(([id]) => id).sort(), metric);
  }
});

test('refused tokens are watched wherever tokens are judged', () => {
  const { Metrics } = template.Resources.RefusalsAlarm.Properties;
  const watched = Metrics.flatMap((one: any) => one.MetricStat?.Metric.Dimensions[0].Value ?? []);
  // Whoever may read the public keys judges tokens; the token server, which publishes them, judges its clients.
  const judges = functions.filter(([, one]) => partitions(one.Properties).includes('JWKS'));
  assert.deepEqual(watched.sort(), judges.map(([, one]) => one.Metadata.BuildProperties.Binary).sort());
  assert.equal(Metrics.find((one: any) => one.ReturnData).Expression, 'SUM(FILL(METRICS(), 0))');
});

test('the routes are those of the document that the API gives of itself', () => {
  const routes = functions
    .flatMap(([, one]) => Object.values(one.Properties.Events ?? {}))
    .filter((event: any) => event.Type === 'HttpApi')
    .map(({ Properties }: any) => `${Properties.Method} ${Properties.Path}`);
  const document = JSON.parse(read('functions', 'src', 'reference', 'openapi.json'));
  const described = Object.entries(document.paths as Record<string, object>).flatMap(([path, methods]) => {
    const known = Object.keys(methods).filter((method) => /^(get|post|put|delete)$/.test(method));
    return known.map((method) => `${method.toUpperCase()} ${path}`);
  });
  assert.deepEqual(routes.sort(), described.sort());
});

test('contact events and suggestions need a token before the function is asked, the text hook after', () => {
  const authorizers = functions.flatMap(([id, one]) =>
    Object.values(one.Properties.Events ?? {}).map((event: any) => [id, event.Properties.Auth?.Authorizer]),
  );
  const guarded = authorizers.filter(([, authorizer]) => authorizer !== undefined);
  const expected = ['ContactEvents', 'Suggestions', 'Suggestions'].map((id) => [id, 'Tokens']);
  assert.deepEqual(guarded, expected);
  assert.equal(template.Resources.HttpApi.Properties.Auth.Authorizers.Tokens.Identity.ReauthorizeEvery, 0);
  assert.equal(template.Resources.ConnectRoute.Properties.AuthorizationType, 'CUSTOM');
});
