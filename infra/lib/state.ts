// What outlives every task: the table and the recordings. The serverless stack has both already; where the shim runs
// without it, they are made here, of the same shape.

import {
  ArnFormat,
  Duration,
  RemovalPolicy,
  Stack,
  aws_dynamodb as dynamodb,
  aws_iam as iam,
  aws_s3 as s3,
} from 'aws-cdk-lib';
import { Construct } from 'constructs';

import { UPLINKS } from './assistance';
import type { Config } from './config';

/** The parts of the index that contacts are in. */
const SHARDS = ['0', '1', '2', '3'];

/** Those of the outbox: suggestions, insights, popups, webhooks, and dead letters. */
const OUTBOX_SHARDS = ['S', 'I', 'P', 'W', 'X'].flatMap((lane) => SHARDS.map((shard) => `O${lane}${shard}`));

/** The table and the bucket, and what the shim may do with them. */
export class State extends Construct {
  /** Name of the table. */
  readonly tableName: string;
  /** Name of the bucket. */
  readonly bucketName: string;

  constructor(scope: Construct, id: string, config: Config) {
    super(scope, id);
    this.tableName = config.tableName ?? this.makeTable(config).tableName;
    this.bucketName = config.recordingsBucket ?? this.makeBucket(config).bucketName;
  }

  /**
   * Exactly what the shim needs: contacts and one-time ids, the public keys, what is due, and the recordings; and where
   * it holds sockets to CXone, interactions and leases, too.
   */
  statements(holdsUplinks: boolean): iam.PolicyStatement[] {
    const stack = Stack.of(this);
    const table = stack.formatArn({ service: 'dynamodb', resource: 'table', resourceName: this.tableName });
    const bucket = stack.formatArn({
      service: 's3',
      region: '',
      account: '',
      resource: this.bucketName,
      arnFormat: ArnFormat.NO_RESOURCE_NAME,
    });
    // ForAllValues is true of a request without keys, so nothing here may scan.
    const onlyPartitions = (operator: string, names: string[]) => ({
      [`ForAllValues:${operator}`]: { 'dynamodb:LeadingKeys': names },
    });
    return [
      new iam.PolicyStatement({
        sid: 'Contacts',
        actions: ['DeleteItem', 'GetItem', 'Query', 'UpdateItem'].map((action) => `dynamodb:${action}`),
        resources: [table],
        conditions: onlyPartitions('StringLike', ['CONTACT#*']),
      }),
      new iam.PolicyStatement({
        sid: 'OneTimeTokens',
        actions: ['dynamodb:UpdateItem'],
        resources: [table],
        conditions: onlyPartitions('StringLike', ['ONETIME#*']),
      }),
      new iam.PolicyStatement({
        sid: 'PublicKeys',
        actions: ['dynamodb:Query'],
        resources: [table],
        conditions: onlyPartitions('StringEquals', ['JWKS']),
      }),
      new iam.PolicyStatement({
        sid: 'WhatIsDue',
        actions: ['dynamodb:Query'],
        resources: [`${table}/index/due`],
        conditions: onlyPartitions('StringEquals', [...SHARDS, ...(holdsUplinks ? OUTBOX_SHARDS : [])]),
      }),
      ...(holdsUplinks
        ? [
            // Steps are transactions, which are allowed by what is in them.
            new iam.PolicyStatement({
              sid: 'Interactions',
              actions: ['DeleteItem', 'GetItem', 'PutItem', 'Query', 'UpdateItem'].map((one) => `dynamodb:${one}`),
              resources: [table],
              conditions: onlyPartitions('StringLike', ['INTERACTION#*']),
            }),
            new iam.PolicyStatement({
              sid: 'Leases',
              actions: ['GetItem', 'UpdateItem'].map((one) => `dynamodb:${one}`),
              resources: [table],
              conditions: onlyPartitions('StringEquals', UPLINKS.map((uplink) => `LEASE#${uplink}`)),
            }),
          ]
        : []),
      new iam.PolicyStatement({
        sid: 'Recordings',
        actions: ['AbortMultipartUpload', 'DeleteObject', 'GetObject', 'PutObject'].map((action) => `s3:${action}`),
        resources: [`${bucket}/live/*`, `${bucket}/contacts/*`],
      }),
      new iam.PolicyStatement({
        sid: 'WhatThereIs',
        actions: ['s3:ListBucket'],
        resources: [bucket],
        conditions: { StringLike: { 's3:prefix': ['live/*', 'contacts/*'] } },
      }),
    ];
  }

  private makeTable(config: Config): dynamodb.Table {
    const table = new dynamodb.Table(this, 'Table', {
      partitionKey: { name: 'pk', type: dynamodb.AttributeType.STRING },
      sortKey: { name: 'sk', type: dynamodb.AttributeType.STRING },
      timeToLiveAttribute: 'expires_at',
      billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
      encryption: dynamodb.TableEncryption.AWS_MANAGED,
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      deletionProtection: config.deletionProtection,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    table.addGlobalSecondaryIndex({
      indexName: 'due',
      partitionKey: { name: 'due_shard', type: dynamodb.AttributeType.STRING },
      sortKey: { name: 'due_at_ms', type: dynamodb.AttributeType.NUMBER },
      projectionType: dynamodb.ProjectionType.ALL,
    });
    return table;
  }

  private makeBucket(config: Config): s3.Bucket {
    const expiration = Duration.days(config.recordingsRetentionDays);
    return new s3.Bucket(this, 'Recordings', {
      encryption: s3.BucketEncryption.S3_MANAGED,
      blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
      objectOwnership: s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
      enforceSSL: true,
      versioned: true,
      removalPolicy: RemovalPolicy.RETAIN,
      lifecycleRules: [
        { id: 'uploads-that-were-given-up', abortIncompleteMultipartUploadAfter: Duration.days(1) },
        { id: 'recordings', prefix: 'contacts/', expiration, noncurrentVersionExpiration: Duration.days(7) },
        { id: 'segments', prefix: 'live/', expiration, noncurrentVersionExpiration: Duration.days(1) },
      ],
    });
  }
}
