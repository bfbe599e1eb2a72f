import { expect, test } from 'vitest'
import { clientName } from './clientName'

test('browsers are recognised by their user agents', () => {
  expect(clientName('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36')).toBe('Chrome on Linux')
  expect(clientName('Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1')).toBe('Safari on iOS')
  expect(clientName('hexa-cli/0.1.0')).toBe('hexa-cli/0.1.0')
  expect(clientName(null)).toBe('unknown client')
})
