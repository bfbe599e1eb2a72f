import { expect, test } from 'vitest'
import * as features from '.'

test('every room with routes is in the list of rooms', () => {
  const folders = Object.keys(import.meta.glob('./*/routes.ts')).map((path) => path.split('/')[1])
  expect(Object.keys(features).sort()).toEqual(folders.sort())
})
