// The shim's stack: network, state, service, alarms, dashboard; and what other stacks and people need to know of it.

import { CfnOutput, Stack, Tags, aws_logs as logs } from 'aws-cdk-lib';
import type { Construct } from 'constructs';

import { Alarms } from './alarms';
import type { Config } from './config';
import { Dashboard } from './dashboard';
import { Network } from './network';
import { ShimService } from './service';
import { State } from './state';

export class ShimStack extends Stack {
  constructor(scope: Construct, id: string, config: Config) {
    super(scope, id, {
      description: "Earpiece: the shim that carries CXone's audio sockets, on Fargate",
      // A stack that holds live calls is not deleted by a slip.
      terminationProtection: config.deletionProtection,
    });
    Tags.of(this).add('project', 'earpiece');
    // CDK writes down dependencies that a reference enforces already.
    this.templateOptions.metadata = { 'cfn-lint': { config: { ignore_checks: ['W3005'] } } };
    // Its values are numbers of days.
    const logRetention: logs.RetentionDays = config.logRetentionDays;
    const network = new Network(this, 'Network', config, logRetention);
    const state = new State(this, 'State', config);
    const shim = new ShimService(this, 'Shim', { config, network, state, logRetention });
    const alarms = new Alarms(this, 'Alarms', config, shim);
    new Dashboard(this, 'Overview', alarms.all);

    this.output('BalancerDnsName', shim.balancer.loadBalancerDnsName, "What the audio socket's name has to point at");
    this.output('ClusterName', shim.service.cluster.clusterName, 'Cluster of the service, for infra/release-old-tasks');
    this.output('ServiceName', shim.service.serviceName, 'Name of the service, for infra/release-old-tasks');
    this.output('TokensSecretArn', shim.secret.secretArn, 'audioTokens, assistUrl and assistAuthorization, as JSON');
    this.output('IngestSecretArn', shim.ingestSecret.secretArn, "For the serverless stack's ShimIngestSecretArn");
    if (shim.assistance !== undefined) {
      const { secretArn } = shim.assistance.webhooks;
      this.output('WebhooksSecretArn', secretArn, 'kbSyncUrl, onAcceptUrl and webhookSecrets, as JSON');
    }
    this.output('TableName', state.tableName, 'Name of the table');
    this.output('RecordingsBucket', state.bucketName, 'Name of the bucket');
  }

  private output(id: string, value: string, description: string): void {
    new CfnOutput(this, id, { value, description });
  }
}
