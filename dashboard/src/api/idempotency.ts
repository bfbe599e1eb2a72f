/** Idempotency keys (docs/API.md): a repeated request with the same key gets the former answer, and changes nothing. */
import type { ApiError } from './error'

/** A new key; `randomUUID` exists in secure contexts only. */
export function newIdempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
}

/** The request header of a key. */
export const idempotencyHeader = (key: string): { 'idempotency-key': string } => ({ 'idempotency-key': key })

/** Errors after which the request may have taken effect (docs/API.md, Relay commands). */
const UNKNOWN_OUTCOME_CODES = new Set(['device_timeout', 'idempotency_in_progress', 'storage_unavailable'])

/** Whether the request may have taken effect: a device, the server or a proxy before it did not answer. */
export const isOutcomeUnknown = (error: ApiError): boolean =>
  error.unanswered || UNKNOWN_OUTCOME_CODES.has(error.code) || error.status === 500 || (error.code === 'not_an_answer' && error.status >= 500)
