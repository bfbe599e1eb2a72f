import { expect, test } from 'vitest'
import { hexaImport } from './lazyModule'
import { basePathOf, parseServerUrl } from './serverUrl'

test('a file that failed to load is requested under another URL, from then on', async () => {
  const requested: string[] = []
  // The module map of an older browser: a failed URL fails for ever.
  const failed = new Set(['./A.js', './A.js?again=1'])
  const load = (name: string) => {
    requested.push(name)
    return failed.has(name) ? Promise.reject(new TypeError('failed')) : Promise.resolve(name)
  }
  await expect(hexaImport('./A.js', load)).rejects.toThrow()
  await expect(hexaImport('./A.js', load)).rejects.toThrow()
  expect(await hexaImport('./A.js', load)).toBe('./A.js?again=2')
  // The same URL for every importer: a second copy would have a state of its own.
  expect(await hexaImport('./A.js', load)).toBe('./A.js?again=2')
  expect(await hexaImport('./B.js', load)).toBe('./B.js')
  expect(requested.length).toBe(5)
})

test('the page finds the path that it is served under', () => {
  expect(basePathOf('/dashboard/assets/index-a.js')).toBe('')
  expect(basePathOf('/hexa/dashboard/assets/index-a.js')).toBe('/hexa')
  expect(basePathOf('/my/dashboard/dashboard/assets/index-a.js')).toBe('/my/dashboard')
})

test('a server URL is an origin with an optional path', () => {
  expect(parseServerUrl('https://Hexa.Example:443/')).toBe('https://hexa.example')
  expect(parseServerUrl('http://h:8080/hexa/')).toBe('http://h:8080/hexa')
  for (const bad of ['', 'hexa', 'ftp://h', 'https://u:p@h', 'https://h/?a=1', 'https://h/#x', 'javascript:alert(1)'])
    expect(parseServerUrl(bad), bad).toBeNull()
})
