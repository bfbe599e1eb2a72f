import { expect, test, vi } from 'vitest'
import type { CommandDone } from '../../api/client'
import { ApiError } from '../../api/error'
import { freshKey, isUnknown, run } from './command'

const done: CommandDone = { command_id: 'c', status: 'executed', relays: [{ index: 0, state: true, version: 2 }], latency_ms: 2 }

test('an answer that was lost is asked for again with the same key', async () => {
  const keys: string[] = []
  const send = vi.fn((key: string) => {
    keys.push(key)
    return keys.length === 1 ? Promise.reject(new ApiError('unreachable', 'gone')) : Promise.resolve(done)
  })
  expect(await run('hx1', true, send)).toEqual({ kind: 'acked', latencyMs: 2, noop: false })
  expect(keys.length).toBe(2)
  expect(keys[0]).toBe(keys[1])
})

test('what is not known is not a failure', async () => {
  const timeout = new ApiError('device_timeout', 'no answer', 504, 'req-1', { command_id: 'c1' })
  expect(await run('hx1', false, () => Promise.reject(timeout))).toEqual({ kind: 'unknown', error: timeout, target: false, commandId: 'c1' })
  const refused = new ApiError('device_rejected', 'no', 502, 'req-2')
  expect(await run('hx1', false, () => Promise.reject(refused))).toEqual({ kind: 'failed', error: refused })
  expect(isUnknown(new ApiError('unreachable', ''))).toBe(true)
  expect(isUnknown(new ApiError('device_offline', '', 409))).toBe(false)
  // The device did it, and the server could not write it down; a proxy gave up on the server.
  expect(isUnknown(new ApiError('storage_unavailable', '', 503))).toBe(true)
  expect(isUnknown(new ApiError('not_an_answer', '', 504))).toBe(true)
  expect(isUnknown(new ApiError('not_an_answer', '', 403))).toBe(false)
})

test('an answer that stays away for long is not asked for again: the click is too long ago', async () => {
  vi.useFakeTimers()
  const send = vi.fn(() => new Promise<CommandDone>((_, fail) => setTimeout(() => fail(new ApiError('no_answer', '')), 20_000)))
  const end = run('hx1', true, send)
  await vi.advanceTimersByTimeAsync(25_000)
  expect((await end).kind).toBe('unknown')
  expect(send).toHaveBeenCalledTimes(1)
  vi.useRealTimers()
})

test('keys differ', () => {
  expect(new Set(Array.from({ length: 100 }, freshKey)).size).toBe(100)
  expect(freshKey()).toMatch(/^[0-9a-f]{32}$/)
})
