import { expect, test } from 'vitest'
import { absoluteTime, relativeTime } from './RelativeTime'

test('times are relative to now', () => {
  const now = 1_790_000_000_000
  expect(relativeTime(now - 2_000, now)).toBe('just now')
  expect(relativeTime(now - 65_000, now)).toBe('1 minute ago')
  expect(relativeTime(now - 3 * 86_400_000, now)).toBe('3 days ago')
  expect(relativeTime(now + 7_200_000, now)).toBe('in 2 hours')
})

test('an absolute time has its zone', () => {
  const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: 'short' }).formatToParts(0).find((part) => part.type === 'timeZoneName')
  expect(zone?.value).toBeTruthy()
  expect(absoluteTime(0)).toContain(zone?.value)
})
