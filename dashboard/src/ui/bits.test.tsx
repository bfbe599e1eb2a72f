import { expect, test } from 'vitest'
import { instant } from '../features/audit/AuditFilters'
import { ordered } from '../features/operations/overview/OverviewPage'
import { program } from '../features/accounts/sessions/SessionList'
import { ago, counted, moment } from './bits'
import { alone } from './Chart'

test('times are told from now', () => {
  const now = 1_790_000_000_000
  expect(ago(now - 2_000, now)).toBe('just now')
  expect(ago(now - 65_000, now)).toBe('1 minute ago')
  expect(ago(now - 3 * 86_400_000, now)).toBe('3 days ago')
  expect(ago(now + 7_200_000, now)).toBe('in 2 hours')
})

test('a whole time says its zone', () => {
  const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: 'short' }).formatToParts(0).find((part) => part.type === 'timeZoneName')
  expect(zone?.value).toBeTruthy()
  expect(moment(0)).toContain(zone?.value)
})

test('an order that was kept has every card once', () => {
  expect(ordered(undefined)).toEqual(['fleet', 'commands', 'latency', 'audit', 'plugins'])
  expect(ordered(['audit', 'audit', 'gone', 'fleet'])).toEqual(['audit', 'fleet', 'commands', 'latency', 'plugins'])
})

test('a field without a time is no filter', () => {
  expect(instant('')).toBe('')
  expect(instant('yesterday')).toBe('')
  expect(instant('2026-11-23T12:00')).toMatch(/^2026-11-2\dT\d\d:00:00\.000Z$/)
})

test('browsers are called by their names', () => {
  expect(program('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36')).toBe('Chrome on Linux')
  expect(program('Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1')).toBe('Safari on iOS')
  expect(program('hexa-cli/0.1.0')).toBe('hexa-cli/0.1.0')
  expect(program(null)).toBe('an unnamed program')
})

test('one is said differently from many', () => {
  expect([counted(0, 'socket'), counted(1, 'socket'), counted(12_040, 'socket')]).toEqual(['0 sockets', '1 socket', '12,040 sockets'])
})

test('a value between two gaps is drawn as a point', () => {
  expect(alone([null, 4, null, 1, 2, null, 3])).toEqual([1, 6])
  expect(alone([1, 2, 3])).toBeNull()
})
