// The shim on Fargate: one service of tasks that hold sockets, a load balancer that ends TLS, and scaling by what a task
// really runs out of, which is streams.

import {
  Duration,
  Stack,
  aws_ec2 as ec2,
  aws_ecr as ecr,
  aws_ecs as ecs,
  aws_elasticloadbalancingv2 as elbv2,
  aws_iam as iam,
  aws_logs as logs,
  aws_secretsmanager as secretsmanager,
} from 'aws-cdk-lib';
import { Construct } from 'constructs';

import { Assistance } from './assistance';
import type { Config } from './config';
import { type Network, TASK_PORT } from './network';
import type { State } from './state';
import { shimMetric } from './telemetry';

/** Between SIGTERM and SIGKILL: the most that Fargate gives. The shim is through after `EARPIECE_DRAIN_DEADLINE`. */
const STOP_TIMEOUT = Duration.seconds(120);

/** The user of the image, who owns nothing in it. */
const NOBODY = '65532:65532';

/** Sockets of a full task: CXone's, the app's, and what AWS's clients need. */
const OPEN_FILES_MAX = 65_535;

export interface ServiceProps {
  readonly config: Config;
  readonly network: Network;
  readonly state: State;
  readonly logRetention: logs.RetentionDays;
}

/** The tasks, and the way to them. */
export class ShimService extends Construct {
  readonly balancer: elbv2.NetworkLoadBalancer;
  readonly targets: elbv2.NetworkTargetGroup;
  readonly service: ecs.FargateService;
  /** Tokens of callers and the assist app's address and credential, as JSON. */
  readonly secret: secretsmanager.Secret;
  /** The token for `/ingest`, which the functions present. */
  readonly ingestSecret: secretsmanager.Secret;
  /** The way back to the agent, where there are credentials for CXone's platform. */
  readonly assistance?: Assistance;

  constructor(scope: Construct, id: string, props: ServiceProps) {
    super(scope, id);
    const { config, network } = props;
    this.secret = new secretsmanager.Secret(this, 'Tokens', {
      description: 'Earpiece: tokens that callers present; the voice address of the assist app, and its credential',
      generateSecretString: {
        // An empty text is a setting that is not set.
        secretStringTemplate: JSON.stringify({ assistUrl: '', assistAuthorization: '' }),
        generateStringKey: 'audioTokens',
        excludePunctuation: true,
        passwordLength: 48,
      },
    });
    this.ingestSecret = new secretsmanager.Secret(this, 'IngestToken', {
      description: 'Earpiece: the token with which functions hand audio to the shim',
      generateSecretString: { excludePunctuation: true, passwordLength: 48 },
    });
    if (config.assistance !== undefined) {
      this.assistance = new Assistance(this, 'Assistance', config.assistance);
    }

    const cluster = new ecs.Cluster(this, 'Cluster', {
      vpc: network.vpc,
      containerInsightsV2: ecs.ContainerInsights.ENABLED,
    });
    const task = this.makeTask(props);
    this.service = new ecs.FargateService(this, 'Service', {
      cluster,
      taskDefinition: task,
      platformVersion: ecs.FargatePlatformVersion.LATEST,
      assignPublicIp: false,
      vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS },
      securityGroups: [network.tasks],
      // Old tasks go when new ones are there, and a deployment whose tasks do not come up goes back by itself.
      minHealthyPercent: 100,
      maxHealthyPercent: 200,
      circuitBreaker: { enable: true, rollback: true },
      healthCheckGracePeriod: Duration.seconds(60),
      // Evening out zones would stop tasks that hold calls.
      availabilityZoneRebalancing: ecs.AvailabilityZoneRebalancing.DISABLED,
      propagateTags: ecs.PropagatedTagSource.SERVICE,
      enableExecuteCommand: false,
    });
    this.allowProtection(task, cluster);
    this.balancer = this.makeBalancer(config, network);
    this.targets = this.makeTargets(config);
    this.scale(config);
  }

  private makeTask({ config, state, logRetention }: ServiceProps): ecs.FargateTaskDefinition {
    const task = new ecs.FargateTaskDefinition(this, 'Task', {
      cpu: config.cpu,
      memoryLimitMiB: config.memoryMib,
      runtimePlatform: {
        cpuArchitecture: config.architecture === 'arm64' ? ecs.CpuArchitecture.ARM64 : ecs.CpuArchitecture.X86_64,
        operatingSystemFamily: ecs.OperatingSystemFamily.LINUX,
      },
    });
    state.statements(this.assistance !== undefined).forEach((statement) => task.addToTaskRolePolicy(statement));
    if (this.assistance !== undefined) {
      task.addToTaskRolePolicy(this.assistance.statement());
    }
    const repository = ecr.Repository.fromRepositoryName(this, 'Repository', config.imageRepository);
    const linux = new ecs.LinuxParameters(this, 'Linux');
    linux.dropCapabilities(ecs.Capability.ALL);
    const container = task.addContainer('shim', {
      image: ecs.ContainerImage.fromEcrRepository(repository, config.imageTag),
      environment: this.environment(config, state),
      secrets: this.secrets(),
      logging: ecs.LogDrivers.awsLogs({
        streamPrefix: 'shim',
        logGroup: new logs.LogGroup(this, 'Log', { retention: logRetention }),
        // Logs must never hold up audio: what does not fit into the buffer is lost.
        mode: ecs.AwsLogDriverMode.NON_BLOCKING,
      }),
      portMappings: [{ containerPort: TASK_PORT, protocol: ecs.Protocol.TCP }],
      user: NOBODY,
      readonlyRootFilesystem: true,
      privileged: false,
      linuxParameters: linux,
      stopTimeout: STOP_TIMEOUT,
    });
    container.addUlimits({ name: ecs.UlimitName.NOFILE, softLimit: OPEN_FILES_MAX, hardLimit: OPEN_FILES_MAX });
    if (config.connectionsApiId !== undefined) {
      task.addToTaskRolePolicy(
        new iam.PolicyStatement({
          sid: 'ListeningPages',
          actions: ['execute-api:ManageConnections'],
          resources: [
            Stack.of(this).formatArn({
              service: 'execute-api',
              resource: config.connectionsApiId,
              resourceName: 'v1/POST/@connections/*',
            }),
          ],
        }),
      );
    }
    return task;
  }

  private environment(config: Config, state: State): Record<string, string> {
    const { region, urlSuffix } = Stack.of(this);
    return {
      EARPIECE_LISTEN: `0.0.0.0:${TASK_PORT}`,
      EARPIECE_TABLE: state.tableName,
      EARPIECE_RECORDINGS: `s3://${state.bucketName}`,
      EARPIECE_STREAMS_MAX: String(config.streamsMax),
      EARPIECE_QUIET_PERIOD: config.quietPeriod,
      EARPIECE_LOG: config.logLevel,
      EARPIECE_EMF: 'on',
      ...(config.jwtIssuer === undefined
        ? {}
        : {
            EARPIECE_JWKS: 'table',
            EARPIECE_JWT_ISSUER: config.jwtIssuer,
            EARPIECE_JWT_AUDIENCE: config.jwtAudience,
          }),
      ...(config.connectionsApiId === undefined
        ? {}
        : { EARPIECE_CONNECTIONS_URL: `https://${config.connectionsApiId}.execute-api.${region}.${urlSuffix}/v1` }),
      ...this.assistance?.environment(),
    };
  }

  private secrets(): Record<string, ecs.Secret> {
    return {
      EARPIECE_AUDIO_TOKENS: ecs.Secret.fromSecretsManager(this.secret, 'audioTokens'),
      EARPIECE_ASSIST_URL: ecs.Secret.fromSecretsManager(this.secret, 'assistUrl'),
      EARPIECE_ASSIST_AUTHORIZATION: ecs.Secret.fromSecretsManager(this.secret, 'assistAuthorization'),
      EARPIECE_INGEST_TOKENS: ecs.Secret.fromSecretsManager(this.ingestSecret),
      ...this.assistance?.secrets(),
    };
  }

  /** A task protects itself from being scaled in while it holds streams. */
  private allowProtection(task: ecs.FargateTaskDefinition, cluster: ecs.Cluster): void {
    task.addToTaskRolePolicy(
      new iam.PolicyStatement({
        sid: 'ScaleInProtection',
        actions: ['ecs:GetTaskProtection', 'ecs:UpdateTaskProtection'],
        resources: [
          Stack.of(this).formatArn({ service: 'ecs', resource: 'task', resourceName: `${cluster.clusterName}/*` }),
        ],
      }),
    );
  }

  private makeBalancer(config: Config, network: Network): elbv2.NetworkLoadBalancer {
    return new elbv2.NetworkLoadBalancer(this, 'Balancer', {
      vpc: network.vpc,
      internetFacing: true,
      securityGroups: [network.balancer],
      crossZoneEnabled: true,
      deletionProtection: config.deletionProtection,
    });
  }

  private makeTargets(config: Config): elbv2.NetworkTargetGroup {
    const listener = this.balancer.addListener('Tls', {
      port: 443,
      certificates: [elbv2.ListenerCertificate.fromArn(config.certificateArn)],
      sslPolicy: elbv2.SslPolicy.RECOMMENDED_TLS,
    });
    const targets = listener.addTargets('Tasks', {
      port: TASK_PORT,
      protocol: elbv2.Protocol.TCP,
      targets: [this.service.loadBalancerTarget({ containerName: 'shim', containerPort: TASK_PORT })],
      // As long as a task has to drain.
      deregistrationDelay: STOP_TIMEOUT,
      // Wrong tokens are held back by address: the shim has to see the caller's.
      preserveClientIp: true,
      healthCheck: {
        protocol: elbv2.Protocol.HTTP,
        // Not /readyz: ECS replaces a task that this check fails, and a task that is full would lose its calls for it.
        path: '/healthz',
        interval: Duration.seconds(10),
        timeout: Duration.seconds(5),
        healthyThresholdCount: 2,
        unhealthyThresholdCount: 3,
      },
    });
    // The shim tells its sockets itself to go elsewhere (1012), at a rate that the other tasks can take.
    targets.setAttribute('deregistration_delay.connection_termination.enabled', 'false');
    // A task that misses a health check keeps its calls for as long as it lives.
    targets.setAttribute('target_health_state.unhealthy.connection_termination.enabled', 'false');
    return targets;
  }

  private scale(config: Config): void {
    const tasks = this.service.autoScaleTaskCount({ minCapacity: config.tasksMin, maxCapacity: config.tasksMax });
    // Every task tells its own number once a minute, so the average of what was told is that over the tasks.
    tasks.scaleToTrackCustomMetric('LiveStreams', {
      metric: shimMetric('STREAMS_LIVE', 'Average'),
      targetValue: config.streamsPerTask,
      scaleOutCooldown: Duration.minutes(1),
      // Calls are minutes long: tasks that are let go early are started again.
      scaleInCooldown: Duration.minutes(10),
    });
  }
}
