// The way back to the agent: what the shim is told about CXone's platform, and what it may do there for it. The shim
// holds the sockets to CXone only where it has credentials; without them nothing here is made.

import {
  Stack,
  aws_ecs as ecs,
  aws_iam as iam,
  aws_secretsmanager as secretsmanager,
} from 'aws-cdk-lib';
import { Construct } from 'constructs';

import { declaredSettings } from './settings';

/** A socket to CXone that a task may hold; each has a lease of the same name. */
export const UPLINKS = ['suggestions', 'insights', 'popups'] as const;
/** One of them. */
export type Uplink = (typeof UPLINKS)[number];

/** The lanes of the outbox that whoever holds a socket works off. */
export const LANES: Readonly<Record<Uplink, readonly string[]>> = {
  suggestions: ['suggestions', 'webhooks'],
  insights: ['insights'],
  popups: ['popups'],
};

/** ECS takes 64 KiB for everything that is said of a task. */
const TRIGGERS_CHARACTERS_MAX = 32 * 1024;

/** Settings that have a context of their own, or would name credentials in a second place. */
const NOT_BESIDE: ReadonlySet<string> = new Set([
  'EARPIECE_AUDIT_KEEP',
  'EARPIECE_CXONE_ACCESS_KEY_ID',
  'EARPIECE_CXONE_API',
  'EARPIECE_CXONE_BUS_NO',
  'EARPIECE_CXONE_CLIENT_ID',
  'EARPIECE_CXONE_CREDENTIALS',
  'EARPIECE_CXONE_ORG',
  'EARPIECE_KNOWLEDGE',
  'EARPIECE_TRIGGERS',
  'EARPIECE_UPLINKS',
]);

/** What else can be set of the uplinks: everything but secrets and what stands above. */
export const MORE_SETTINGS: ReadonlySet<string> = new Set(
  declaredSettings('crates/cxone/src/settings.rs', 'crates/uplink/src/settings.rs')
    .filter(({ name, isSecret }) => !isSecret && !NOT_BESIDE.has(name))
    .map(({ name }) => name),
);

/** The part of the configuration that is about CXone's platform. */
export interface AssistanceConfig {
  /** Name or ARN of the secret with CXone's credentials. */
  readonly credentials: string;
  /** Base address of CXone's API. */
  readonly api?: string;
  /** The tenant's name in host names. */
  readonly org?: string;
  /** The business unit that the credentials belong to. */
  readonly busNo?: string;
  /** The sockets that tasks may hold. */
  readonly uplinks: readonly Uplink[];
  /** When popups are due, as JSON; or `none`. */
  readonly triggers?: string;
  /** Folder of articles in the image. */
  readonly knowledge?: string;
  /** How long an interaction and its audit are kept. */
  readonly auditKeep: string;
  /** Any of `MORE_SETTINGS`, by their names. */
  readonly more: Readonly<Record<string, string>>;
}

/** The contexts of this part: without `cxoneCredentials` none of the others has a meaning. */
const CONTEXTS = [
  'cxoneApi',
  'cxoneOrg',
  'cxoneBusNo',
  'uplinks',
  'triggers',
  'knowledge',
  'auditKeep',
  'uplinkSettings',
] as const;

/** Reads this part; adds what is wrong to the faults. Without credentials there is none. */
export function readAssistance(context: (key: string) => unknown, faults: string[]): AssistanceConfig | undefined {
  const given = (key: string): string | undefined => {
    const value = context(key);
    return value === undefined || value === '' ? undefined : String(value);
  };
  const text = (key: string, pattern: RegExp, form: string): string | undefined => {
    const value = given(key);
    if (value !== undefined && !pattern.test(value)) {
      faults.push(`${key} must be ${form}`);
    }
    return value;
  };
  const credentials = text(
    'cxoneCredentials',
    /^(?:(?!arn:)[\w/+=.@-]{1,512}|arn:[^:]+:secretsmanager:[^:]+:\d{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6})$/,
    'the name of a secret, or its whole ARN with the six characters at its end',
  );
  if (credentials === undefined) {
    CONTEXTS.filter((key) => given(key) !== undefined).forEach((key) => {
      faults.push(`${key} must not be given without cxoneCredentials: nothing is sent to CXone without credentials`);
    });
    return undefined;
  }
  const more = readMore(context('uplinkSettings'), faults);
  const uplinks = readUplinks(context('uplinks'), faults);
  const org = text('cxoneOrg', /^[A-Za-z0-9-]{1,63}$/, "the tenant's name in host names, as acme in acme.cxone.com");
  if (uplinks.includes('popups') && org === undefined && !('EARPIECE_CXONE_INTERACTIONS_URL' in more)) {
    faults.push('cxoneOrg must be given where uplinks has popups: it is in the address of their socket');
  }
  return {
    credentials,
    api: text('cxoneApi', /^https:\/\/[^\s/?#@]+$/, 'the base address of an API, as https://api.niceincontact.com'),
    org,
    busNo: text('cxoneBusNo', /^\d{1,19}$/, "a business unit's number"),
    uplinks,
    triggers: readTriggers(context('triggers'), faults),
    knowledge: text('knowledge', /^\/\S*$/, 'the path of a folder in the image, from its root'),
    auditKeep: text('auditKeep', /^\d{1,4}d$/, 'a number of days such as 400d') ?? '400d',
    more,
  };
}

function readUplinks(value: unknown, faults: string[]): Uplink[] {
  const words = (Array.isArray(value) ? value.map(String) : String(value || UPLINKS.join(',')).split(','))
    .map((word) => word.trim())
    .filter((word) => word !== '');
  const uplinks = UPLINKS.filter((uplink) => words.includes(uplink));
  if (uplinks.length === 0 || words.some((word) => !UPLINKS.some((uplink) => uplink === word))) {
    faults.push(`uplinks must be one or more of ${UPLINKS.join(', ')}, separated by commas`);
  }
  return uplinks;
}

/** What a trigger is, the shim judges when it starts. */
function readTriggers(value: unknown, faults: string[]): string | undefined {
  if (value === undefined || value === '' || value === 'none') {
    return value === 'none' ? value : undefined;
  }
  const parsed = typeof value === 'string' ? parseJson(value) : value;
  const json = JSON.stringify(parsed);
  if (!Array.isArray(parsed) || json.length > TRIGGERS_CHARACTERS_MAX) {
    faults.push(`triggers must be none, or a JSON array of at most ${TRIGGERS_CHARACTERS_MAX} characters`);
  }
  return json;
}

function readMore(value: unknown, faults: string[]): Record<string, string> {
  const parsed = typeof value === 'string' && value !== '' ? parseJson(value) : (value ?? {});
  if (parsed === '') {
    return {};
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    faults.push('uplinkSettings must be an object of settings by their names');
    return {};
  }
  const unknown = Object.keys(parsed).filter((name) => !MORE_SETTINGS.has(name));
  if (unknown.length > 0) {
    faults.push(`uplinkSettings must not hold ${unknown.join(', ')}: unknown, secret, or a context of its own`);
  }
  return Object.fromEntries(Object.entries(parsed).map(([name, one]) => [name, String(one)]));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The secrets, and what a task is told and allowed because of them. */
export class Assistance extends Construct {
  /** Addresses of webhooks, and what they are signed with, as JSON. */
  readonly webhooks: secretsmanager.Secret;
  private readonly credentials: secretsmanager.ISecret;

  constructor(
    scope: Construct,
    id: string,
    private readonly config: AssistanceConfig,
  ) {
    super(scope, id);
    this.credentials = config.credentials.startsWith('arn:')
      ? secretsmanager.Secret.fromSecretCompleteArn(this, 'Credentials', config.credentials)
      : secretsmanager.Secret.fromSecretNameV2(this, 'Credentials', config.credentials);
    this.webhooks = new secretsmanager.Secret(this, 'Webhooks', {
      description: 'Earpiece: addresses of the webhooks kbSync and onAccept, and the secrets that sign them',
      generateSecretString: {
        // An empty text is a setting that is not set.
        secretStringTemplate: JSON.stringify({ kbSyncUrl: '', onAcceptUrl: '' }),
        generateStringKey: 'webhookSecrets',
        excludePunctuation: true,
        passwordLength: 48,
      },
    });
  }

  /** What the shim reads from its environment. */
  environment(): Record<string, string> {
    const { credentials, api, org, busNo, uplinks, triggers, knowledge, auditKeep, more } = this.config;
    const maybe = (name: string, value: string | undefined) => (value === undefined ? {} : { [name]: value });
    return {
      ...more,
      // Read by the program, and again every minute: a rotation needs no new task.
      EARPIECE_CXONE_CREDENTIALS: `secretsmanager:${credentials}`,
      EARPIECE_UPLINKS: uplinks.join(','),
      EARPIECE_AUDIT_KEEP: auditKeep,
      ...maybe('EARPIECE_CXONE_API', api),
      ...maybe('EARPIECE_CXONE_ORG', org),
      ...maybe('EARPIECE_CXONE_BUS_NO', busNo),
      ...maybe('EARPIECE_TRIGGERS', triggers),
      ...maybe('EARPIECE_KNOWLEDGE', knowledge),
    };
  }

  /** What ECS puts into it when a task starts. */
  secrets(): Record<string, ecs.Secret> {
    return {
      EARPIECE_KB_SYNC_URL: ecs.Secret.fromSecretsManager(this.webhooks, 'kbSyncUrl'),
      EARPIECE_ON_ACCEPT_URL: ecs.Secret.fromSecretsManager(this.webhooks, 'onAcceptUrl'),
      EARPIECE_WEBHOOK_SECRETS: ecs.Secret.fromSecretsManager(this.webhooks, 'webhookSecrets'),
    };
  }

  /** The one secret that a task may read by itself. */
  statement(): iam.PolicyStatement {
    const arn = this.credentials.secretFullArn;
    // A secret that is known by its name has six more characters in its ARN, which nobody can know before.
    const named = () =>
      Stack.of(this).formatArn({ service: 'secretsmanager', resource: `secret:${this.config.credentials}-??????` });
    return new iam.PolicyStatement({
      sid: 'CxoneCredentials',
      actions: ['secretsmanager:GetSecretValue'],
      resources: [arn ?? named()],
    });
  }
}
