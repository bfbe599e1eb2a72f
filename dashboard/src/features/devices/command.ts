/**
 * A relay command as the page follows it: pending, acknowledged, failed, or unknown until the device says.
 *
 * It carries an idempotency key, so that an answer which was lost on the way can be asked for again without switching
 * twice. A timeout is never shown as a failure: the device may have done it.
 */
import { api, ask, type CommandDone } from '../../api/client'
import { type ApiError, asApiError } from '../../api/error'
import { session } from '../../api/session'
import type { Relay } from '../../api/socket'
import { confirm } from '../../state/live'

export type CommandState =
  | { kind: 'idle' }
  | { kind: 'pending'; target: boolean }
  | { kind: 'acked'; latencyMs: number; noop: boolean }
  | { kind: 'failed'; error: ApiError }
  | { kind: 'unknown'; error: ApiError; target: boolean; commandId: string | null }

/** What ends a command without saying how: the device may have done it (docs/API.md, Relay commands). */
const OPEN_ENDS = new Set(['device_timeout', 'idempotency_in_progress', 'storage_unavailable'])

/** The outcome is not known: a device that did not answer, a server or a proxy before it that did not. */
export const isUnknown = (error: ApiError): boolean =>
  error.unanswered || OPEN_ENDS.has(error.code) || error.status === 500 || (error.code === 'not_an_answer' && error.status >= 500)

const RETRY_AFTER_MS = 400
/** Later than this nobody expects a click to switch anything any more. */
const RETRY_WITHIN_MS = 5_000

/** An idempotency key; `randomUUID` is for secure contexts only. */
export function freshKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
}

/** A refusal may say how things stand instead (`device_state_mismatch`). */
function told(uid: string, error: ApiError): void {
  const relays: unknown = error.details?.relays
  if (Array.isArray(relays) && relays.every((r: Partial<Relay> | null) => typeof r?.index === 'number' && typeof r.version === 'number'))
    confirm(uid, relays as Relay[])
}

type Send = (key: string) => Promise<CommandDone>

/** Sends it; asks once more with the same key when there was no answer. */
export async function run(uid: string, target: boolean, send: Send): Promise<CommandState> {
  const key = freshKey()
  const ended = session.signal()
  const begun = performance.now()
  for (let attempt = 0; ; attempt += 1) {
    try {
      const done = await send(key)
      confirm(uid, done.relays)
      return { kind: 'acked', latencyMs: done.latency_ms, noop: done.status === 'noop' }
    } catch (thrown) {
      const error = asApiError(thrown)
      told(uid, error)
      // Whoever clicked is gone: it is not to be sent in another's name.
      if (ended.aborted) return { kind: 'idle' }
      if (error.unanswered && attempt === 0 && performance.now() - begun < RETRY_WITHIN_MS) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER_MS))
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- it may have ended meanwhile
        if (ended.aborted) return { kind: 'idle' }
        continue
      }
      if (!isUnknown(error)) return { kind: 'failed', error }
      const id = error.details?.command_id
      return { kind: 'unknown', error, target, commandId: typeof id === 'string' ? id : null }
    }
  }
}

export const setRelay = (uid: string, index: number, state: boolean): Promise<CommandState> =>
  run(uid, state, (key) =>
    ask(
      api().POST('/api/v1/devices/{uid}/relays/{index}', {
        params: { path: { uid, index }, header: { 'idempotency-key': key } },
        body: { state },
      }),
    ),
  )

export const setAll = (uid: string, state: boolean): Promise<CommandState> =>
  run(uid, state, (key) =>
    ask(
      api().POST('/api/v1/devices/{uid}/relays', {
        params: { path: { uid }, header: { 'idempotency-key': key } },
        body: { state },
      }),
    ),
  )

/** What became of a command whose end was not known: `null` while nobody knows. */
export async function outcome(commandId: string): Promise<string | null> {
  const told = await ask(api().GET('/api/v1/commands/{command_id}', { params: { path: { command_id: commandId } } }))
  if (told.follow_up !== null) return told.follow_up.status
  return told.status === 'executed' || told.status === 'noop' ? told.status : null
}
