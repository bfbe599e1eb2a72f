import { expect, test } from 'vitest'
import { isolatedPoints } from './Chart'

test('a value between two gaps is drawn as a point', () => {
  expect(isolatedPoints([null, 4, null, 1, 2, null, 3])).toEqual([1, 6])
  expect(isolatedPoints([1, 2, 3])).toBeNull()
})
