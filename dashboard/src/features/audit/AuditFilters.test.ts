import { expect, test } from 'vitest'
import { toInstant } from './AuditFilters'

test('a field without a time is no filter', () => {
  expect(toInstant('')).toBe('')
  expect(toInstant('yesterday')).toBe('')
  expect(toInstant('2026-11-23T12:00')).toMatch(/^2026-11-2\dT\d\d:00:00\.000Z$/)
})
