import { beforeEach, expect, test } from 'vitest'
import { ApiError } from '../api/error'
import { withIdempotencyKey } from './idempotentRequest'
import { resetSession } from './resetSession'

let keys: string[] = []
const fails = (error: ApiError) => (key: string) => {
  keys.push(key)
  return Promise.reject(error)
}
const lost = new ApiError('no_answer', 'late')
const works = (key: string) => {
  keys.push(key)
  return Promise.resolve(key)
}

beforeEach(() => {
  keys = []
  resetSession()
})

test('after a lost answer the same key is used, until there is an answer', async () => {
  for (const error of [lost, new ApiError('unreachable', ''), new ApiError('not_an_answer', '', 502), new ApiError('storage_unavailable', '', 503)])
    await expect(withIdempotencyKey(['rotate', 'hx1'], fails(error))).rejects.toBe(error)
  await withIdempotencyKey(['rotate', 'hx1'], works)
  expect(new Set(keys).size).toBe(1)
  await withIdempotencyKey(['rotate', 'hx1'], works)
  expect(new Set(keys).size).toBe(2)
})

test('a refused attempt gets a new key, and so do other contents, another device or another account', async () => {
  await expect(withIdempotencyKey(['rotate', 'hx1'], fails(new ApiError('not_found', '', 404)))).rejects.toThrow()
  await expect(withIdempotencyKey(['rotate', 'hx1'], fails(lost))).rejects.toThrow()
  await expect(withIdempotencyKey(['rotate', 'hx2'], fails(lost))).rejects.toThrow()
  await expect(withIdempotencyKey(['token', { name: 'a' }], fails(lost))).rejects.toThrow()
  await expect(withIdempotencyKey(['token', { name: 'b' }], fails(lost))).rejects.toThrow()
  resetSession()
  await withIdempotencyKey(['rotate', 'hx1'], works)
  expect(new Set(keys).size).toBe(6)
})

test('times are computed from the first attempt, so that a repeated request is identical', async () => {
  const startedAt: number[] = []
  const note = (end: Promise<void>) => (_key: string, at: number) => {
    startedAt.push(at)
    return end
  }
  await expect(withIdempotencyKey(['share'], note(Promise.reject(lost)))).rejects.toThrow()
  await new Promise((later) => setTimeout(later, 15))
  await withIdempotencyKey(['share'], note(Promise.resolve()))
  expect(startedAt[0]).toBe(startedAt[1])
})
