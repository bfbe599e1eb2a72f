/**
 * Requests whose answer must not be lost, such as one with a secret that is shown once.
 *
 * They carry an idempotency key (docs/API.md): after a lost answer, the next attempt uses the same key, gets the former
 * answer and changes nothing. An attempt after a known outcome has a new key.
 */
import { asApiError } from '../api/error'
import { isOutcomeUnknown, newIdempotencyKey } from '../api/idempotency'
import { serverNow } from '../api/serverClock'
import { onSessionReset } from './resetSession'

/** An attempt later than this is a new one. */
const KEEP_MS = 10 * 60_000

/** Attempts with an unknown outcome, by what they were to do. */
const unresolved = new Map<string, { key: string; at: number; startedAt: number }>()
onSessionReset(() => unresolved.clear())

/**
 * Runs `work` with an idempotency key: the former one when `what` was tried before and its outcome is unknown. Times in
 * the request must be computed from `startedAt` (the server's clock), because a repeated request must be identical.
 */
export async function withIdempotencyKey<T>(what: readonly unknown[], work: (key: string, startedAt: number) => Promise<T>): Promise<T> {
  const name = JSON.stringify(what)
  const now = performance.now()
  for (const [other, { at }] of unresolved) if (now - at > KEEP_MS) unresolved.delete(other)
  const attempt = unresolved.get(name) ?? { key: newIdempotencyKey(), at: now, startedAt: serverNow() }
  unresolved.set(name, attempt)
  try {
    const done = await work(attempt.key, attempt.startedAt)
    unresolved.delete(name)
    return done
  } catch (thrown) {
    if (!isOutcomeUnknown(asApiError(thrown))) unresolved.delete(name)
    throw thrown
  }
}
