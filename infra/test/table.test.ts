import assert from 'node:assert/strict';
import { test } from 'node:test';

import { only, synthesize } from './example';
import { read, serverlessTemplate } from './sources';

/** The table's names as the store has them. */
function names(): Record<string, string> {
  const source = read('crates', 'store', 'src', 'table.rs');
  const constants = [...source.matchAll(/^pub const (\w+): &str = "([^"]+)";$/gm)];
  return Object.fromEntries(constants.map(([, constant, name]) => [constant, name]));
}

test('both stacks make the table that the store expects', () => {
  const { PARTITION_KEY, SORT_KEY, DUE_INDEX, DUE_SHARD, DUE_AT_MS, EXPIRES_AT_S } = names();
  const expected = {
    key: [[PARTITION_KEY, 'HASH'], [SORT_KEY, 'RANGE']],
    indexes: [[DUE_INDEX, [[DUE_SHARD, 'HASH'], [DUE_AT_MS, 'RANGE']], 'ALL']],
    types: [[DUE_AT_MS, 'N'], [DUE_SHARD, 'S'], [PARTITION_KEY, 'S'], [SORT_KEY, 'S']],
    ttl: { AttributeName: EXPIRES_AT_S, Enabled: true },
    billing: 'PAY_PER_REQUEST',
    recovery: true,
    encrypted: true,
  };
  assert.ok([PARTITION_KEY, SORT_KEY, DUE_INDEX, DUE_SHARD, DUE_AT_MS, EXPIRES_AT_S].every(Boolean));
  const made = only(synthesize().findResources('AWS::DynamoDB::Table')).Properties;
  for (const table of [serverlessTemplate().Resources.Table.Properties, made]) {
    const schema = (keys: any[]) => keys.map((key) => [key.AttributeName, key.KeyType]);
    assert.deepEqual(
      {
        key: schema(table.KeySchema),
        indexes: table.GlobalSecondaryIndexes.map((index: any) => [
          index.IndexName,
          schema(index.KeySchema),
          index.Projection.ProjectionType,
        ]),
        types: table.AttributeDefinitions.map((one: any) => [one.AttributeName, one.AttributeType]).sort(),
        ttl: table.TimeToLiveSpecification,
        billing: table.BillingMode,
        recovery: table.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled,
        encrypted: table.SSESpecification.SSEEnabled,
      },
      expected,
    );
  }
});
