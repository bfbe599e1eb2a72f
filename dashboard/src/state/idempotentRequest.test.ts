import { beforeEach, expect, test } from 'vitest'
import { ApiError } from '../api/error'
import { forget } from './resetSession'
import { once } from './idempotentRequest'

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
  forget()
})

test('an answer that was lost is asked for with the same key, until it is there', async () => {
  for (const error of [lost, new ApiError('unreachable', ''), new ApiError('not_an_answer', '', 502), new ApiError('storage_unavailable', '', 503)])
    await expect(once(['rotate', 'hx1'], fails(error))).rejects.toBe(error)
  await once(['rotate', 'hx1'], works)
  expect(new Set(keys).size).toBe(1)
  await once(['rotate', 'hx1'], works)
  expect(new Set(keys).size).toBe(2)
})

test('an attempt that was refused is over, and so is one for other words, another device or another person', async () => {
  await expect(once(['rotate', 'hx1'], fails(new ApiError('not_found', '', 404)))).rejects.toThrow()
  await expect(once(['rotate', 'hx1'], fails(lost))).rejects.toThrow()
  await expect(once(['rotate', 'hx2'], fails(lost))).rejects.toThrow()
  await expect(once(['token', { name: 'a' }], fails(lost))).rejects.toThrow()
  await expect(once(['token', { name: 'b' }], fails(lost))).rejects.toThrow()
  forget()
  await once(['rotate', 'hx1'], works)
  expect(new Set(keys).size).toBe(6)
})

test('times are counted from the first attempt: a former key is for the former request', async () => {
  const begun: number[] = []
  const note = (end: Promise<void>) => (_key: string, at: number) => {
    begun.push(at)
    return end
  }
  await expect(once(['share'], note(Promise.reject(lost)))).rejects.toThrow()
  await new Promise((later) => setTimeout(later, 15))
  await once(['share'], note(Promise.resolve()))
  expect(begun[0]).toBe(begun[1])
})
