import { expect, test } from 'vitest'
import { asApiError, fromAnswer, unreachable } from './error'

test("the server's code and message are kept", () => {
  const body = { code: 'device_offline', message: 'not there', details: { command_id: 'c' }, request_id: 'req-1' }
  const error = fromAnswer(new Response(null, { status: 409, headers: { 'retry-after': '3' } }), body)
  expect([error.code, error.message, error.status, error.requestId, error.retryAfter]).toEqual(['device_offline', 'not there', 409, 'req-1', 3])
})

test("an answer of a proxy is not taken for the server's", () => {
  const error = fromAnswer(new Response(null, { status: 502, headers: { 'x-request-id': 'req-9' } }), null)
  expect([error.code, error.requestId, error.unanswered]).toEqual(['not_an_answer', 'req-9', false])
})

test('everything that is thrown gets a code', async () => {
  await expect(unreachable(Promise.reject(new TypeError('Failed to fetch')))).rejects.toMatchObject({ code: 'unreachable', unanswered: true })
  // A fault of the page is not an unreachable server.
  expect(asApiError(new TypeError('x is undefined')).code).toBe('unexpected')
  expect(asApiError(new DOMException('', 'TimeoutError')).code).toBe('no_answer')
  expect(asApiError(new SyntaxError('x')).code).toBe('malformed_answer')
  expect(asApiError('odd').message).toBe('odd')
})
