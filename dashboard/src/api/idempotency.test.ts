import { expect, test } from 'vitest'
import { ApiError } from './error'
import { isOutcomeUnknown, newIdempotencyKey } from './idempotency'

test('errors after which the request may have taken effect', () => {
  expect(isOutcomeUnknown(new ApiError('unreachable', ''))).toBe(true)
  expect(isOutcomeUnknown(new ApiError('device_offline', '', 409))).toBe(false)
  // The device may have executed it although the server could not store that, or a proxy gave up on the server.
  expect(isOutcomeUnknown(new ApiError('storage_unavailable', '', 503))).toBe(true)
  expect(isOutcomeUnknown(new ApiError('not_an_answer', '', 504))).toBe(true)
  expect(isOutcomeUnknown(new ApiError('not_an_answer', '', 403))).toBe(false)
})

test('keys differ', () => {
  expect(new Set(Array.from({ length: 100 }, newIdempotencyKey)).size).toBe(100)
  expect(newIdempotencyKey()).toMatch(/^[0-9a-f]{32}$/)
})
