import { expect, test } from 'vitest'
import { hexaImport } from './lazyModule'
import { prefixOf, serverAddress } from './serverUrl'

test('a file that could not be had is asked for under another address, and stays there', async () => {
  const asked: string[] = []
  // The module map of an older browser: what failed once fails for ever.
  const failed = new Set(['./A.js', './A.js?again=1'])
  const load = (name: string) => {
    asked.push(name)
    return failed.has(name) ? Promise.reject(new TypeError('failed')) : Promise.resolve(name)
  }
  await expect(hexaImport('./A.js', load)).rejects.toThrow()
  await expect(hexaImport('./A.js', load)).rejects.toThrow()
  expect(await hexaImport('./A.js', load)).toBe('./A.js?again=2')
  // The same one for everybody: a second copy of it would remember other things.
  expect(await hexaImport('./A.js', load)).toBe('./A.js?again=2')
  expect(await hexaImport('./B.js', load)).toBe('./B.js')
  expect(asked.length).toBe(5)
})

test('the page finds the path that it is served below', () => {
  expect(prefixOf('/dashboard/assets/index-a.js')).toBe('')
  expect(prefixOf('/hexa/dashboard/assets/index-a.js')).toBe('/hexa')
  expect(prefixOf('/my/dashboard/dashboard/assets/index-a.js')).toBe('/my/dashboard')
})

test('a server is an origin, and a path where it has one', () => {
  expect(serverAddress('https://Hexa.Example:443/')).toBe('https://hexa.example')
  expect(serverAddress('http://h:8080/hexa/')).toBe('http://h:8080/hexa')
  for (const bad of ['', 'hexa', 'ftp://h', 'https://u:p@h', 'https://h/?a=1', 'https://h/#x', 'javascript:alert(1)'])
    expect(serverAddress(bad), bad).toBeNull()
})
