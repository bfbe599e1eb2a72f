import { expect, test } from 'vitest'
import { pluralize } from './pluralize'

test('one has no plural', () => {
  expect([pluralize(0, 'socket'), pluralize(1, 'socket'), pluralize(12_040, 'socket')]).toEqual(['0 sockets', '1 socket', '12,040 sockets'])
})
