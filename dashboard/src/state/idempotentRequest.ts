/**
 * Changes whose answer counts as much as their effect, such as one that has a secret in it which is told once.
 *
 * They carry an idempotency key (docs/API.md): when the answer was lost, whoever asks again gets that answer, and not a
 * second change. A new attempt whose former one has ended has a key of its own.
 */
import { serverNow } from '../api/client'
import { asApiError } from '../api/error'
import { freshKey, isUnknown } from '../features/devices/command'
import { onForget } from './resetSession'

/** Later than this nobody means the same attempt any more. */
const KEEP_MS = 10 * 60_000

/** Attempts whose end nobody knows, by what they were to do. */
const open = new Map<string, { key: string; at: number; begun: number }>()
onForget(() => open.clear())

/** The header of a key. */
export const keyed = (key: string): { 'idempotency-key': string } => ({ 'idempotency-key': key })

/**
 * Does `work` with a key: the one of before where `what`, all of it, was tried and nobody knows what became of it. Times
 * that it says are to be counted from `begun`, by the server's clock: a request with a former key is the former request.
 */
export async function once<T>(what: readonly unknown[], work: (key: string, begun: number) => Promise<T>): Promise<T> {
  const name = JSON.stringify(what)
  const now = performance.now()
  for (const [other, { at }] of open) if (now - at > KEEP_MS) open.delete(other)
  const attempt = open.get(name) ?? { key: freshKey(), at: now, begun: serverNow() }
  open.set(name, attempt)
  try {
    const done = await work(attempt.key, attempt.begun)
    open.delete(name)
    return done
  } catch (thrown) {
    if (!isUnknown(asApiError(thrown))) open.delete(name)
    throw thrown
  }
}
