import { expect, test } from 'vitest'
import { cardOrder } from './cardOrder'

test('a saved order has every card once', () => {
  expect(cardOrder(undefined)).toEqual(['fleet', 'commands', 'latency', 'audit', 'plugins'])
  expect(cardOrder(['audit', 'audit', 'gone', 'fleet'])).toEqual(['audit', 'fleet', 'commands', 'latency', 'plugins'])
})
