import { z } from 'zod';

/**
 * The protocol of vz-helper: JSON lines on its stdin and stdout. `vz-helper/PROTOCOL.md` explains every key; types and
 * bounds here are the same.
 */
export const HELPER_PROTOCOL = 1;

const MEBIBYTE = 1024 * 1024;
const bytes = (text: string): number => Buffer.byteLength(text);
const noNul = (text: string): boolean => !text.includes('\0');

const text = (minBytes: number, maxBytes: number): z.ZodString =>
  z
    .string()
    .refine((value) => bytes(value) >= minBytes && bytes(value) <= maxBytes, {
      error: `must be ${minBytes} to ${maxBytes} bytes long`,
    })
    .refine(noNul, { error: 'must not have a NUL in it' })
    .refine((value) => !/\p{Surrogate}/u.test(value), { error: 'must be Unicode' });

const path = (maxBytes = 1023): z.ZodString =>
  text(1, maxBytes).refine((value) => value.startsWith('/'), { error: 'must be an absolute path' });

const tag = text(1, 35);

const diskSchema = z.strictObject({
  path: path(),
  readOnly: z.boolean(),
  /** The guest's `/dev/disk/by-id/virtio-<identifier>`. */
  identifier: z
    .string()
    .regex(/^[!-.0-~]{1,20}$/, { error: 'must be 1 to 20 printable ASCII characters without space or /' })
    .optional(),
});

const shareSchema = z.strictObject({ tag, path: path(), readOnly: z.boolean() });

const rosettaSchema = z.strictObject({
  tag,
  /** Socket in the guest where the runtime looks for `rosettad`; `null`: translations are not kept. */
  cache: z.strictObject({ path: path(107) }).nullable(),
});

/** Argument of `configure`. */
export const helperConfigurationSchema = z
  .strictObject({
    kernel: path(),
    initrd: path(),
    commandLine: text(0, 2047).refine((value) => !/[\n\r]/.test(value), { error: 'must be one line' }),
    cpus: z.int().min(1),
    memoryBytes: z
      .int()
      .min(MEBIBYTE)
      .multipleOf(MEBIBYTE, { error: `must be a multiple of ${MEBIBYTE}` }),
    disks: z.array(diskSchema).max(16),
    shares: z.array(shareSchema).max(32),
    rosetta: rosettaSchema.nullable(),
    network: z
      .strictObject({
        mac: z.string().regex(/^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$/, {
          error: 'must be a unicast MAC address',
        }),
      })
      .nullable(),
    /** A file that reaches `maxBytes` loses its older half. */
    console: z.strictObject({
      path: path(),
      maxBytes: z
        .int()
        .min(4096)
        .max(1024 * MEBIBYTE),
      /** Descriptor 3 gets what the guest prints, too, and gives it what is typed. */
      terminal: z.boolean().optional(),
    }),
    vsock: z.strictObject({ path: path(103) }),
    nested: z.boolean(),
  })
  .refine(
    ({ shares, rosetta }) => {
      const tags = [...shares.map((share) => share.tag), ...(rosetta === null ? [] : [rosetta.tag])];
      return new Set(tags).size === tags.length;
    },
    { error: 'the tags must differ', path: ['shares'] },
  );
export type HelperConfiguration = z.output<typeof helperConfigurationSchema>;

export type HelperRequest =
  | { readonly op: 'hello'; readonly protocol: typeof HELPER_PROTOCOL }
  | { readonly op: 'configure'; readonly config: HelperConfiguration }
  | { readonly op: 'start' }
  | { readonly op: 'space'; readonly path: string };

const limitsSchema = z.object({ min: z.int().nonnegative(), max: z.int().nonnegative() });

/** Capabilities of this Mac. */
export const helperFactsSchema = z.object({
  protocol: z.literal(HELPER_PROTOCOL),
  helper: z.string(),
  macos: z.string(),
  architecture: z.enum(['arm64', 'x86_64']),
  /** Whether this Mac can run virtual machines at all. */
  supported: z.boolean(),
  /** Whether the helper finds `com.apple.security.virtualization` in its signature. Advice: the framework decides. */
  entitled: z.boolean(),
  rosetta: z.enum(['installed', 'notInstalled', 'notSupported']),
  rosettaCache: z.boolean(),
  nested: z.boolean(),
  cpus: limitsSchema,
  memoryBytes: limitsSchema,
});
export type HelperFacts = z.output<typeof helperFactsSchema>;

/** Answer to `space`. */
export const spaceSchema = z.object({ freeBytes: z.number().nonnegative() });

/** State of the virtual machine. */
export const machineStateSchema = z.enum(['stopped', 'running', 'error', 'starting', 'stopping', 'other']);
export type MachineState = z.output<typeof machineStateSchema>;

const errorSchema = z.object({
  domain: z.string(),
  code: z.int(),
  text: z.string(),
  key: z.string().optional(),
});
export type HelperFault = z.output<typeof errorSchema>;

/** Domain of vz-helper's own errors. */
export const HELPER_ERROR_DOMAIN = 'vz-helper';
export const helperErrorCodes = {
  badLine: 1,
  badRequest: 2,
  badState: 3,
  unsupported: 4,
  rosettaMissing: 5,
  failed: 7,
  exception: 8,
} as const;

export const helperReplySchema = z.discriminatedUnion('ok', [
  z.object({ id: z.int().nullable(), ok: z.literal(true), result: z.unknown() }),
  z.object({ id: z.int().nullable(), ok: z.literal(false), error: errorSchema }),
]);
export type HelperReply = z.output<typeof helperReplySchema>;

export const helperEventSchema = z.discriminatedUnion('event', [
  z.object({ event: z.literal('started') }),
  z.object({ event: z.literal('stopped') }),
  z.object({ event: z.literal('crashed'), error: errorSchema }),
  z.object({ event: z.literal('networkLost'), error: errorSchema }),
  z.object({ event: z.literal('sleep'), wallMs: z.number() }),
  z.object({ event: z.literal('wake'), wallMs: z.number() }),
  z.object({ event: z.literal('warning'), error: errorSchema }),
]);
export type HelperEvent = z.output<typeof helperEventSchema>;
