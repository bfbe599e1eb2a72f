import { expect, test, vi } from 'vitest'
import type { CommandDone } from '../../api/client'
import { ApiError } from '../../api/error'
import { runCommand } from './command'

const done: CommandDone = { command_id: 'c', status: 'executed', relays: [{ index: 0, state: true, version: 2 }], latency_ms: 2 }

test('a command whose answer was lost is repeated with the same key', async () => {
  const keys: string[] = []
  const send = vi.fn((key: string) => {
    keys.push(key)
    return keys.length === 1 ? Promise.reject(new ApiError('unreachable', 'gone')) : Promise.resolve(done)
  })
  expect(await runCommand('hx1', true, send)).toEqual({ kind: 'acked', latencyMs: 2, noop: false })
  expect(keys.length).toBe(2)
  expect(keys[0]).toBe(keys[1])
})

test('an unknown outcome is not a failure', async () => {
  const timeout = new ApiError('device_timeout', 'no answer', 504, 'req-1', { command_id: 'c1' })
  expect(await runCommand('hx1', false, () => Promise.reject(timeout))).toEqual({ kind: 'unknown', error: timeout, target: false, commandId: 'c1' })
  const refused = new ApiError('device_rejected', 'no', 502, 'req-2')
  expect(await runCommand('hx1', false, () => Promise.reject(refused))).toEqual({ kind: 'failed', error: refused })
})

test('a command is not repeated long after the click', async () => {
  vi.useFakeTimers()
  const send = vi.fn(() => new Promise<CommandDone>((_, fail) => setTimeout(() => fail(new ApiError('no_answer', '')), 20_000)))
  const end = runCommand('hx1', true, send)
  await vi.advanceTimersByTimeAsync(25_000)
  expect((await end).kind).toBe('unknown')
  expect(send).toHaveBeenCalledTimes(1)
  vi.useRealTimers()
})
