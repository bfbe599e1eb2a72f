import { expect, test } from 'vitest'
import { AUDIT_WORDS } from './auditWords'

const rooms = import.meta.glob<Record<string, string>>('../features/*/words.ts', { eager: true, import: 'auditWords' })

test('every room with words is found, and no action has the words of two rooms', () => {
  expect(Object.keys(rooms).length).toBeGreaterThanOrEqual(4)
  const actions = Object.values(rooms).flatMap((words) => Object.keys(words))
  expect(actions.length).toBe(new Set(actions).size)
  expect([...AUDIT_WORDS.keys()].sort()).toEqual(actions.sort())
})
