import { expect, test } from 'vitest'
import { describePeriod, describeState, isUnwell } from './describeWorker'

test('a period is told in the unit that people would use', () => {
  expect([250, 2_500, 60_000, 300_000, 3_600_000, 7_200_000].map(describePeriod)).toEqual([
    'every 250 ms',
    'every 2.5 s',
    'every minute',
    'every 5 minutes',
    'every hour',
    'every 2 hours',
  ])
  expect(describePeriod(null)).toBe('when there is something to do')
})

test('a worker is unwell while it restarts, and until a run after a failed one has ended well', () => {
  const at = '2026-08-01T12:00:00.000Z'
  const later = '2026-08-01T12:00:05.000Z'
  const error = { at, message: 'storage_unavailable' }
  expect(isUnwell({ state: 'backing_off', last_run_at: at, last_error: null })).toBe(true)
  expect(isUnwell({ state: 'idle', last_run_at: at, last_error: error })).toBe(true)
  expect(isUnwell({ state: 'idle', last_run_at: later, last_error: error })).toBe(false)
  expect(isUnwell({ state: 'idle', last_run_at: at, last_error: null })).toBe(false)
  expect(describeState('backing_off')).toBe('restarting')
})
