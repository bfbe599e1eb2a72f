/**
 * Relay commands: pending, acknowledged, failed, or unknown until the device reports.
 *
 * A command has an idempotency key, so that it can be repeated after a lost answer without switching twice. A timeout is
 * never shown as a failure: the device may have executed the command.
 */
import { api, type CommandDone, unwrap } from '../../api/client'
import { type ApiError, asApiError } from '../../api/error'
import { idempotencyHeader, isOutcomeUnknown, newIdempotencyKey } from '../../api/idempotency'
import { session } from '../../api/session'
import type { Relay } from '../../api/socket'
import { applyConfirmed } from '../../state/live'

export type CommandState =
  | { kind: 'idle' }
  | { kind: 'pending'; target: boolean }
  | { kind: 'acked'; latencyMs: number; noop: boolean }
  | { kind: 'failed'; error: ApiError }
  | { kind: 'unknown'; error: ApiError; target: boolean; commandId: string | null }

const RETRY_AFTER_MS = 400
/** A command is not repeated later than this after the click: nobody expects it to switch by then. */
const RETRY_WITHIN_MS = 5_000

/** Takes the relay states that an error reports (`device_state_mismatch`). */
function applyReportedRelays(uid: string, error: ApiError): void {
  const relays: unknown = error.details?.relays
  if (Array.isArray(relays) && relays.every((r: Partial<Relay> | null) => typeof r?.index === 'number' && typeof r.version === 'number'))
    applyConfirmed(uid, relays as Relay[])
}

type Send = (key: string) => Promise<CommandDone>

/** Sends a command; repeats it once with the same key when there was no answer. */
export async function runCommand(uid: string, target: boolean, send: Send): Promise<CommandState> {
  const key = newIdempotencyKey()
  const ended = session.signal()
  const startedAt = performance.now()
  for (let attempt = 0; ; attempt += 1) {
    try {
      const done = await send(key)
      applyConfirmed(uid, done.relays)
      return { kind: 'acked', latencyMs: done.latency_ms, noop: done.status === 'noop' }
    } catch (thrown) {
      const error = asApiError(thrown)
      applyReportedRelays(uid, error)
      // The user signed out: the command must not be repeated for the next account.
      if (ended.aborted) return { kind: 'idle' }
      if (error.unanswered && attempt === 0 && performance.now() - startedAt < RETRY_WITHIN_MS) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER_MS))
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- it may have ended meanwhile
        if (ended.aborted) return { kind: 'idle' }
        continue
      }
      if (!isOutcomeUnknown(error)) return { kind: 'failed', error }
      const id = error.details?.command_id
      return { kind: 'unknown', error, target, commandId: typeof id === 'string' ? id : null }
    }
  }
}

/** Switches one relay of a device. */
export const setRelay = (uid: string, index: number, state: boolean): Promise<CommandState> =>
  runCommand(uid, state, (key) => {
    const params = { path: { uid, index }, header: idempotencyHeader(key) }
    return unwrap(api().POST('/api/v1/devices/{uid}/relays/{index}', { params, body: { state } }))
  })

/** Switches every relay of a device in one command. */
export const setAllRelays = (uid: string, state: boolean): Promise<CommandState> =>
  runCommand(uid, state, (key) => {
    const params = { path: { uid }, header: idempotencyHeader(key) }
    return unwrap(api().POST('/api/v1/devices/{uid}/relays', { params, body: { state } }))
  })

/** The outcome of a command that ended as unknown; `null` while it is still unknown. */
export async function fetchOutcome(commandId: string): Promise<string | null> {
  const command = await unwrap(api().GET('/api/v1/commands/{command_id}', { params: { path: { command_id: commandId } } }))
  if (command.follow_up !== null) return command.follow_up.status
  return command.status === 'executed' || command.status === 'noop' ? command.status : null
}
